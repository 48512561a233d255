"""scBERT: token + gene vectors -> Performer -> bins (pretraining) or cell types (fine-tuning).

Source: Yang et al. 2022, Fig. 1 and Methods.

Shape letters: B cells in a mini-batch, G genes, D width of a gene, T bins (0 to n_bins),
C cell types, V genes of the vocabulary.
"""

import torch
from torch import Tensor, nn

from scbert.config import Network
from scbert.network.masking import padding_id
from scbert.network.packing import Packing
from scbert.network.performer import build_encoder


class Encoder(nn.Module):
    """Genes and their bins -> one vector per gene.

    Parameters
    ----------
    gene_vectors_VD
        gene2vec, shape (vocabulary, dim). Frozen or trained on, as `settings.gene_identity` says.
    """

    def __init__(self, settings: Network, n_bins: int, gene_vectors_VD: Tensor, seed: int) -> None:
        super().__init__()
        self.token = nn.Embedding(padding_id(n_bins) + 1, settings.dim)
        self.gene = nn.Embedding.from_pretrained(
            gene_vectors_VD.to(torch.float32, copy=True),  # training would change the caller's
            freeze=settings.gene_identity == "frozen",
        )
        self.performer = build_encoder(settings, seed)
        self.norm = nn.LayerNorm(settings.dim)

    def forward(self, genes_BG: Tensor, tokens_BG: Tensor, cells: Tensor | Packing) -> Tensor:
        """Return x_BGD.

        Parameters
        ----------
        cells
            Shape (B, G), false where a cell is padded; or, for exact attention, where the cells
            lie in one row of tokens (B is 1), or in padded rows: padding then gets zeros.
        """
        x_BGD = self.token(tokens_BG) + self.gene(genes_BG)
        if not isinstance(cells, Packing) or cells.place_T is None:
            return self.norm(self.performer(x_BGD, mask=cells))
        rows_RD = x_BGD.flatten(0, 1)
        y_TD = self.norm(self.performer(rows_RD.index_select(0, cells.place_T)[None], mask=cells))[
            0
        ]
        padded_RD = torch.zeros_like(rows_RD, dtype=y_TD.dtype)
        return padded_RD.index_copy(0, cells.place_T, y_TD).view_as(x_BGD)


class MaskedExpressionModel(nn.Module):
    """Encoder and the layer that predicts the bin of each gene."""

    def __init__(self, encoder: Encoder, dim: int, n_bins: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.to_bins = nn.Linear(dim, n_bins + 1)

    def forward(self, genes_BG: Tensor, tokens_BG: Tensor, cells: Tensor | Packing) -> Tensor:
        """Return logits_BGT; `cells` as for the encoder."""
        return self.to_bins(self.encoder(genes_BG, tokens_BG, cells))


class CellTypeModel(nn.Module):
    """Encoder and the head that names the cell type."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self,
        genes_BG: Tensor,
        tokens_BG: Tensor,
        real_BG: Tensor,
        packing: Packing | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return logits_BC and one vector per cell, shape (B, width of the head).

        `packing` says where the real genes lie, for exact attention without padding.
        """
        x_BGD = self._encode(genes_BG, tokens_BG, real_BG, packing)
        with torch.autocast(x_BGD.device.type, enabled=False):
            return self.head(x_BGD, genes_BG, real_BG)

    def _encode(
        self, genes_BG: Tensor, tokens_BG: Tensor, real_BG: Tensor, packing: Packing | None
    ) -> Tensor:
        """Return what the head takes, float32 or wider: it has few products, and logits count."""
        x_BGD = self.encoder(genes_BG, tokens_BG, real_BG if packing is None else packing)
        return x_BGD.to(torch.promote_types(x_BGD.dtype, torch.float32))
