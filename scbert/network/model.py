"""scBERT: token + gene vectors -> Performer -> bins (pretraining) or cell types (fine-tuning).

Source: Yang et al. 2022, Fig. 1 and Methods.

Shape letters: B cells in a mini-batch, G genes, D width of a gene, T bins (0 to n_bins),
C cell types, V genes of the vocabulary.
"""

import torch
from torch import Tensor, nn

from scbert.config import Network
from scbert.network.masking import padding_id
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

    def forward(self, genes_BG: Tensor, tokens_BG: Tensor, real_BG: Tensor) -> Tensor:
        """Return x_BGD; `real_BG` is false where a cell is padded."""
        x_BGD = self.token(tokens_BG) + self.gene(genes_BG)
        return self.norm(self.performer(x_BGD, mask=real_BG))


class MaskedExpressionModel(nn.Module):
    """Encoder and the layer that predicts the bin of each gene."""

    def __init__(self, encoder: Encoder, dim: int, n_bins: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.to_bins = nn.Linear(dim, n_bins + 1)

    def forward(self, genes_BG: Tensor, tokens_BG: Tensor, real_BG: Tensor) -> Tensor:
        """Return logits_BGT."""
        return self.to_bins(self.encoder(genes_BG, tokens_BG, real_BG))


class CellTypeModel(nn.Module):
    """Encoder and the head that names the cell type."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self, genes_BG: Tensor, tokens_BG: Tensor, real_BG: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits_BC and one vector per cell, shape (B, width of the head)."""
        x_BGD = self.encoder(genes_BG, tokens_BG, real_BG)
        return self.head(x_BGD, genes_BG, tokens_BG, real_BG)
