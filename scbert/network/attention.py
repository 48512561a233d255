"""Attention over the genes of a cell: FAVOR+ (Performer) and exact softmax, behind one interface.

Both take queries, keys and values of shape (B, H, G, E) and a mask of real genes (B, G), and
padding takes no part in numerator or denominator: a cell's output never depends on its batch mates.
A cell without any real gene gets zeros.
Source: Choromanski et al. 2021, Rethinking Attention with Performers, section 2 (FAVOR+); the
epsilon and the stabilisers are those of performer-pytorch 1.1.4, which the tests hold this module
against.

Shape letters: B cells in a mini-batch, H heads, G genes, E width of a head, M random features.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-4  # floor of a feature, as in performer-pytorch


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
    lengths = torch.randn(n_features, dim_head, generator=generator).norm(dim=1)
    return lengths[:, None] * torch.cat(blocks)[:n_features]


class PerformerAttention(nn.Module):
    """FAVOR+: softmax attention approximated by random features, linear in the number of genes.

    Parameters
    ----------
    stabilizer
        What is subtracted before the exponential of key features: their maximum per cell and head
        (`head`), or over all heads of a cell (`cell`, which is what the original does to one cell).
    """

    projection_ME: Tensor

    def __init__(
        self, dim_head: int, n_features: int, stabilizer: Literal["head", "cell"], seed: int
    ) -> None:
        super().__init__()
        self.stabilizer = stabilizer
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("projection_ME", draw_projection(n_features, dim_head, generator))

    @torch.no_grad()
    def redraw(self, generator: torch.Generator) -> None:
        """Replace the random features."""
        n_features, dim_head = self.projection_ME.shape
        self.projection_ME.copy_(draw_projection(n_features, dim_head, generator))

    def forward(self, q_BHGE: Tensor, k_BHGE: Tensor, v_BHGE: Tensor, real_BG: Tensor) -> Tensor:
        """Attend; returns shape (B, H, G, E) in the type of the values."""
        with torch.autocast(q_BHGE.device.type, enabled=False):  # exponentials need float32
            q_BHGM = self._query_features(_at_least_float32(q_BHGE))
            k_BHGM = self._key_features(_at_least_float32(k_BHGE), real_BG)
            kv_BHME = torch.einsum("bhgm,bhge->bhme", k_BHGM, _at_least_float32(v_BHGE))
            out_BHGE = torch.einsum("bhgm,bhme->bhge", q_BHGM, kv_BHME)
            norm_BHG = torch.einsum("bhgm,bhm->bhg", q_BHGM, k_BHGM.sum(dim=2))
            no_gene_B11 = ~real_BG.any(dim=1)[:, None, None]  # 0 / 1 instead of 0 / 0
            norm_BHG = norm_BHG.masked_fill(no_gene_B11, 1.0)
            return (out_BHGE / norm_BHG[..., None]).to(v_BHGE.dtype)

    def _exponents(self, x_BHGE: Tensor) -> tuple[Tensor, Tensor]:
        """Return w·x' and |x'|²/2 for x' = x / E^(1/4)."""
        scaled = x_BHGE * x_BHGE.shape[-1] ** -0.25
        dash_BHGM = scaled @ self.projection_ME.T.to(scaled.dtype)
        return dash_BHGM, scaled.square().sum(dim=-1, keepdim=True) / 2

    def _query_features(self, q_BHGE: Tensor) -> Tensor:
        dash_BHGM, half_norm_BHG1 = self._exponents(q_BHGE)
        highest = dash_BHGM.amax(dim=-1, keepdim=True).detach()
        return torch.exp(dash_BHGM - half_norm_BHG1 - highest) + EPSILON

    def _key_features(self, k_BHGE: Tensor, real_BG: Tensor) -> Tensor:
        dash_BHGM, half_norm_BHG1 = self._exponents(k_BHGE)
        real_B1G1 = real_BG[:, None, :, None]
        over = (1, 2, 3) if self.stabilizer == "cell" else (2, 3)
        highest = (
            dash_BHGM.masked_fill(~real_B1G1, -torch.inf).amax(dim=over, keepdim=True).detach()
        )
        exponent_BHGM = dash_BHGM - half_norm_BHG1 - highest
        # Before exp as well: padding may exceed every real gene, and an infinity there would make
        # gradients NaN though nothing reads it.
        features = torch.exp(exponent_BHGM.masked_fill(~real_B1G1, -torch.inf)) + EPSILON
        return features.masked_fill(~real_B1G1, 0.0)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class ExactAttention(nn.Module):
    """Softmax attention, by torch's fused kernels; faster where cells have few tokens."""

    def forward(self, q_BHGE: Tensor, k_BHGE: Tensor, v_BHGE: Tensor, real_BG: Tensor) -> Tensor:
        """Attend; returns shape (B, H, G, E)."""
        visible_B11G = real_BG[:, None, None, :]
        return functional.scaled_dot_product_attention(
            q_BHGE, k_BHGE, v_BHGE, attn_mask=visible_B11G
        )
