"""What names the cell type, from the vectors that the encoder gives the genes of a cell.

Every head is called as head(x_BGD, genes_BG, tokens_BG, real_BG) and returns logits_BC and one
vector per cell.

Shape letters: B cells in a mini-batch, G genes, D width of a gene, H heads, E width of a head,
C cell types, V genes of the vocabulary.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from scbert.config import Head

POOLING_HEADS = 4


class PooledHead(nn.Module):
    """Attention pooling over genes, then a hidden layer.

    Each head weighs the genes by a learned score and adds up its part of their vectors, so any set
    of genes gives a cell vector of the same size. A cell without any real gene gives zeros.
    """

    def __init__(self, dim: int, settings: Head, n_types: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, POOLING_HEADS)
        self.classify = _layers((dim, *settings.hidden), n_types, nn.GELU, settings.dropout)

    def pool(self, x_BGD: Tensor, real_BG: Tensor) -> Tensor:
        """Return cell vectors, shape (B, D)."""
        score_BGH, real_BG1 = self.score(x_BGD), real_BG[..., None]
        lowest = torch.finfo(score_BGH.dtype).min  # -inf would be NaN in a cell without genes
        weight_BGH = score_BGH.masked_fill(~real_BG1, lowest).softmax(dim=1) * real_BG1
        x_BGHE = x_BGD.unflatten(-1, (POOLING_HEADS, -1))
        return torch.einsum("bgh,bghe->bhe", weight_BGH, x_BGHE).flatten(1)

    def forward(
        self, x_BGD: Tensor, genes_BG: Tensor, tokens_BG: Tensor, real_BG: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits_BC and the cell vectors."""
        pooled_BD = self.pool(x_BGD, real_BG)
        return self.classify(pooled_BD), pooled_BD


class ConvHead(nn.Module):
    """The paper's head: one number per gene of the vocabulary, then a multilayer perceptron.

    A gene that is not a token of the cell gives zero. The cell vector is the first hidden layer.
    """

    def __init__(self, dim: int, n_genes: int, settings: Head, n_types: int) -> None:
        super().__init__()
        self.n_genes = n_genes
        self.to_scalar = nn.Linear(dim, 1)
        first, *rest = settings.hidden
        self.first = nn.Linear(n_genes, first)
        self.classify = _layers((first, *rest), n_types, nn.ReLU, settings.dropout)

    def forward(
        self, x_BGD: Tensor, genes_BG: Tensor, tokens_BG: Tensor, real_BG: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits_BC and the cell vectors."""
        scalar_BG = self.to_scalar(x_BGD).squeeze(-1).relu() * real_BG
        hidden = self.first(_by_gene(scalar_BG, genes_BG, self.n_genes)).relu()
        return self.classify(hidden), hidden


def _by_gene(value_BG: Tensor, genes_BG: Tensor, n_genes: int) -> Tensor:
    """Put each token's value in the place of its gene, shape (B, V); padding must have zero."""
    value_BV = value_BG.new_zeros(len(value_BG), n_genes)
    return value_BV.scatter_add(1, genes_BG, value_BG)


def _layers(
    sizes: tuple[int, ...], n_types: int, activation: type[nn.Module], dropout: float
) -> nn.Sequential:
    """Return a perceptron with dropout before each layer; its input is already activated."""
    modules: list[nn.Module] = []
    for size, following in pairwise(sizes):
        modules += [nn.Dropout(dropout), nn.Linear(size, following), activation()]
    return nn.Sequential(*modules, nn.Dropout(dropout), nn.Linear(sizes[-1], n_types))


def build_head(settings: Head, dim: int, n_genes: int, n_types: int) -> PooledHead | ConvHead:
    """Build the head that the settings name."""
    if settings.head == "conv":
        return ConvHead(dim, n_genes, settings, n_types)
    return PooledHead(dim, settings, n_types)
