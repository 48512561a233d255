"""scBERT: token + gene vectors -> Performer -> bins (pretraining) or cell types (fine-tuning).

Source: Yang et al. 2022, Fig. 1 and Methods.

Shape letters: B cells in a mini-batch, G genes, D width of a gene, H heads, E width of a head,
T bins (0 to n_bins), C cell types, V genes of the vocabulary.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from scbert.config import Head, Network
from scbert.network.masking import padding_id
from scbert.network.performer import build_encoder

POOLING_HEADS = 4


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

    def forward(self, x_BGD: Tensor, genes_BG: Tensor, real_BG: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits_BC and the cell vectors."""
        pooled_BD = self.pool(x_BGD, real_BG)
        return self.classify(pooled_BD), pooled_BD


class ConvHead(nn.Module):
    """The paper's head: one number per gene of the vocabulary, then a multilayer perceptron.

    A gene that is no token of the cell gives zero. The cell vector is the first hidden layer.
    """

    def __init__(self, dim: int, n_genes: int, settings: Head, n_types: int) -> None:
        super().__init__()
        self.n_genes = n_genes
        self.to_scalar = nn.Linear(dim, 1)
        first, *rest = settings.hidden
        self.first = nn.Linear(n_genes, first)
        self.classify = _layers((first, *rest), n_types, nn.ReLU, settings.dropout)

    def forward(self, x_BGD: Tensor, genes_BG: Tensor, real_BG: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits_BC and the cell vectors."""
        scalar_BG = self.to_scalar(x_BGD).squeeze(-1).relu() * real_BG
        scalar_BV = scalar_BG.new_zeros(len(scalar_BG), self.n_genes)
        scalar_BV = scalar_BV.scatter_add(1, genes_BG, scalar_BG)
        hidden = self.first(scalar_BV).relu()
        return self.classify(hidden), hidden


def _layers(
    sizes: tuple[int, ...], n_types: int, activation: type[nn.Module], dropout: float
) -> nn.Sequential:
    """Return a perceptron with dropout before each layer; its input is already activated."""
    modules: list[nn.Module] = []
    for size, following in pairwise(sizes):
        modules += [nn.Dropout(dropout), nn.Linear(size, following), activation()]
    return nn.Sequential(*modules, nn.Dropout(dropout), nn.Linear(sizes[-1], n_types))


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
        return self.head(self.encoder(genes_BG, tokens_BG, real_BG), genes_BG, real_BG)


def build_head(settings: Head, dim: int, n_genes: int, n_types: int) -> nn.Module:
    """Build the head that the settings name."""
    if settings.head == "conv":
        return ConvHead(dim, n_genes, settings, n_types)
    return PooledHead(dim, settings, n_types)
