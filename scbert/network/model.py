"""scBERT: token + gene vectors -> Performer -> bins (pretraining) or cell types (fine-tuning).

Without a trained head, a cell is the mean of its genes. Weights that have learned nothing follow
from a seed.

Shape letters: B cells in a mini-batch, G genes, D width of a gene, T bins, C cell types, V genes of
the vocabulary.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from scbert.config import Head, Network
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
        # Performer's layers norm what they read, and nothing norms what the last one leaves.
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
        self.classify = _layers((first, *rest), n_types, settings.dropout)

    def forward(self, x_BGD: Tensor, genes_BG: Tensor, real_BG: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits_BC and the cell vectors."""
        scalar_BG = self.to_scalar(x_BGD).squeeze(-1).relu() * real_BG
        hidden = self.first(by_gene(scalar_BG, genes_BG, self.n_genes)).relu()
        return self.classify(hidden), hidden


def by_gene(value_BG: Tensor, genes_BG: Tensor, n_genes: int) -> Tensor:
    """Put each token's value in the place of its gene, shape (B, V); padding must have zero."""
    value_BV = value_BG.new_zeros(len(value_BG), n_genes)
    # Added, not put: padding has gene number 0, and would put its zero in the place of that gene.
    return value_BV.scatter_add(1, genes_BG, value_BG)


def _layers(sizes: tuple[int, ...], n_types: int, dropout: float) -> nn.Sequential:
    """Return a perceptron with dropout before each layer; its input is already activated."""
    modules: list[nn.Module] = []
    for size, following in pairwise(sizes):
        modules += [nn.Dropout(dropout), nn.Linear(size, following), nn.ReLU()]
    return nn.Sequential(*modules, nn.Dropout(dropout), nn.Linear(sizes[-1], n_types))


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


class MeanOfGenes(nn.Module):
    """Gives the mean of the encoder's vectors of a cell's tokens; zeros for a cell without one.

    It is called as CellTypeModel is. Its logits are the means times `weight_CD`, what an expert
    reads in them; without one they have shape (B, 0).
    """

    def __init__(self, encoder: Encoder, weight_CD: Tensor | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.norm.normalized_shape[0]
        given_CD = encoder.norm.weight.new_zeros(0, width) if weight_CD is None else weight_CD
        self.register_buffer("weight_CD", given_CD)

    weight_CD: Tensor

    def forward(
        self,
        genes_BG: Tensor,
        tokens_BG: Tensor,
        real_BG: Tensor,
        packing: Packing | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return logits_BC and the means, shape (B, D)."""
        real_BG1 = real_BG[..., None]
        cells = real_BG if packing is None else packing
        x_BGD = self.encoder(genes_BG, tokens_BG, cells) * real_BG1
        mean_BD = x_BGD.sum(dim=1) / real_BG1.sum(dim=1).clamp(min=1)
        return mean_BD @ self.weight_CD.to(mean_BD.dtype).T, mean_BD


def gene_table(gene_vectors_VD: Tensor, sequence: str) -> Tensor:
    """Return the gene vectors, in sequence `paper` with one of zeros for the appended token."""
    if sequence == "paper":
        return torch.cat([gene_vectors_VD, torch.zeros_like(gene_vectors_VD[:1])])
    return gene_vectors_VD


def new_encoder(network: Network, n_bins: int, gene_vectors_VD: Tensor, seed: int) -> Encoder:
    """Build an encoder whose weights follow from the seed."""
    with seeded(seed):
        return Encoder(network, n_bins, gene_vectors_VD, seed)


def new_pretraining_model(
    network: Network, n_bins: int, gene_vectors_VD: Tensor, seed: int
) -> MaskedExpressionModel:
    """Build an encoder and the layer that predicts bins; their weights follow from the seed."""
    with seeded(seed):
        encoder = Encoder(network, n_bins, gene_vectors_VD, seed)
        return MaskedExpressionModel(encoder, network.dim, n_bins)


def new_head(settings: Head, dim: int, n_genes: int, n_types: int, seed: int) -> ConvHead:
    """Build a head whose weights follow from the seed."""
    with seeded(seed):
        return ConvHead(dim, n_genes, settings, n_types)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from the seed inside, and leave torch's generator as it was."""
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
        torch.manual_seed(seed)
        yield


def empty_model(
    config: Mapping[str, Any], n_genes: int, n_types: int | None
) -> MaskedExpressionModel | CellTypeModel:
    """Build the model that a bundle's config.json describes; its weights are still to be loaded.

    One whose encoder stayed as it was pretrained has no head.
    """
    network = Network.model_validate(config["network"])
    vectors_VD = gene_table(torch.zeros(n_genes, network.dim), config["sequence"])
    if n_types is None or config["finetune"]["head"] == "mean":
        return new_pretraining_model(network, config["n_bins"], vectors_VD, seed=0)
    encoder = new_encoder(network, config["n_bins"], vectors_VD, seed=0)
    head = Head.model_validate({key: config["finetune"][key] for key in Head.model_fields})
    return CellTypeModel(encoder, new_head(head, network.dim, len(vectors_VD), n_types, seed=0))
