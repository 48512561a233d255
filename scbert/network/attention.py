"""Attention over the genes of a cell: FAVOR+ (Performer) and exact softmax, behind one interface.

Both take queries, keys and values of shape (B, H, G, E) and a mask of real genes (B, G), and
padding takes no part in numerator or denominator: a cell's output never depends on its batch mates.
A cell without any real gene gets zeros.
Source: Choromanski et al. 2021, Rethinking Attention with Performers, section 2 (FAVOR+). The
kernel is in scbert.network.favor; the tests compare it with performer-pytorch 1.1.4.

Shape letters: B cells in a mini-batch, H heads, G genes, E width of a head, M random features,
D width of a gene, N = 3 H E.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scbert.network.favor import Favor, Shape, tokens_per_chunk
from scbert.network.packing import Packing, packed_attention
from scbert.network.random_features import with_rms


def draw_projection(n_features: int, dim_head: int, generator: torch.Generator) -> Tensor:
    """Draw random features: orthogonal within blocks of `dim_head`, as long as normal vectors.

    Returns
    -------
    Shape (M, E). Drawn on the CPU, so that every rank and device gets the same from one seed.
    """
    blocks = []
    for _ in range(0, n_features, dim_head):
        orthogonal, _ = torch.linalg.qr(torch.randn(dim_head, dim_head, generator=generator))
        blocks.append(orthogonal.T)
    # Rows of length 1 would estimate another kernel than exp(q·k).
    lengths = torch.randn(n_features, dim_head, generator=generator).norm(dim=1)
    return lengths[:, None] * torch.cat(blocks)[:n_features]


class PerformerAttention(nn.Module):
    """FAVOR+: softmax attention approximated by random features, linear in the number of genes.

    Parameters
    ----------
    stabilizer
        What is subtracted before the exponential of key features: their maximum per cell and head
        (`head`), or over all heads of a cell (`cell`, which is what the original does to one cell).
    qk_rms
        Root mean square that each query and each key of a head is scaled to, so that features
        cannot fall to the floor as weights grow; None: they stay as they are.
    """

    projection_ME: Tensor

    def __init__(
        self,
        dim_head: int,
        n_features: int,
        stabilizer: Literal["head", "cell"],
        seed: int,
        qk_rms: float | None = None,
    ) -> None:
        super().__init__()
        self.stabilizer = stabilizer
        self.qk_rms = qk_rms
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("projection_ME", draw_projection(n_features, dim_head, generator))

    @torch.no_grad()
    def redraw(self, generator: torch.Generator) -> None:
        """Replace the random features."""
        n_features, dim_head = self.projection_ME.shape
        self.projection_ME.copy_(draw_projection(n_features, dim_head, generator))

    def forward(self, q_BHGE: Tensor, k_BHGE: Tensor, v_BHGE: Tensor, real_BG: Tensor) -> Tensor:
        """Attend; returns shape (B, H, G, E) in the type of the values."""
        packed_BGD = torch.cat([x.transpose(1, 2).flatten(2) for x in (q_BHGE, k_BHGE, v_BHGE)], -1)
        out_BGHE = self._attend(packed_BGD, None, real_BG, q_BHGE.shape[1])
        return out_BGHE.transpose(1, 2).to(v_BHGE.dtype)

    def of_genes(self, x_BGD: Tensor, weight_ND: Tensor, real_BG: Tensor, n_heads: int) -> Tensor:
        """Attend with the queries, keys and values that the rows of `weight_ND` make of x.

        They never exist for more than a chunk of genes.

        Parameters
        ----------
        weight_ND
            Shape (3 H E, D): for queries, keys and values in turn, E rows for each head.

        Returns
        -------
        Shape (B, G, H E), float32 or wider.
        """
        # The kernel turns autocast off, so what autocast would narrow is narrowed here.
        device = x_BGD.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            x_BGD, weight_ND = x_BGD.to(dtype), weight_ND.to(dtype)
        return self._attend(x_BGD, weight_ND, real_BG, n_heads).flatten(2)

    def _attend(
        self, x_BGD: Tensor, weight_ND: Tensor | None, real_BG: Tensor, n_heads: int
    ) -> Tensor:
        chunk = tokens_per_chunk(n_heads, len(self.projection_ME), x_BGD.device)
        shape = Shape(n_heads, self.stabilizer == "cell", chunk, self.qk_rms)
        return Favor.apply(x_BGD, weight_ND, self.projection_ME, real_BG, shape)


class ExactAttention(nn.Module):
    """Softmax attention, by torch's fused kernels; faster where cells have few tokens.

    `qk_rms` as for PerformerAttention.
    """

    def __init__(self, qk_rms: float | None = None) -> None:
        super().__init__()
        self.qk_rms = qk_rms

    def forward(self, q_BHGE: Tensor, k_BHGE: Tensor, v_BHGE: Tensor, real_BG: Tensor) -> Tensor:
        """Attend; returns shape (B, H, G, E)."""
        empty_B1 = ~real_BG.any(dim=1, keepdim=True)
        # A row in which nothing is visible may be NaN: a cell without genes sees its padding.
        attended_BHGE = functional.scaled_dot_product_attention(
            with_rms(q_BHGE, self.qk_rms),
            with_rms(k_BHGE, self.qk_rms),
            v_BHGE,
            attn_mask=(real_BG | empty_B1)[:, None, None, :],
        )
        return attended_BHGE.masked_fill(empty_B1[:, None, None], 0.0)

    def of_genes(
        self, x_BGD: Tensor, weight_ND: Tensor, cells: Tensor | Packing, n_heads: int
    ) -> Tensor:
        """Attend with queries, keys and values made of x; returns shape (B, G, H E).

        Parameters
        ----------
        cells
            Real genes, shape (B, G), or, where x is one row of packed cells, where they lie in it.
        """
        qkv_BGPHE = functional.linear(x_BGD, weight_ND).unflatten(-1, (3, n_heads, -1))
        if isinstance(cells, Packing):
            q_THE, k_THE, v_THE = qkv_BGPHE.squeeze(0).unbind(dim=1)
            q_THE, k_THE = (with_rms(x_THE, self.qk_rms) for x_THE in (q_THE, k_THE))
            return packed_attention(q_THE, k_THE, v_THE, cells).flatten(1)[None]
        q_BHGE, k_BHGE, v_BHGE = qkv_BGPHE.permute(2, 0, 3, 1, 4)
        return self(q_BHGE, k_BHGE, v_BHGE, cells).transpose(1, 2).flatten(2)
