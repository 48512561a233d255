"""Models before they have learned anything: their weights follow from a seed.

Shape letters: V genes of the vocabulary, D width of a gene.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from scbert.config import Head, Network
from scbert.network.model import CellTypeModel, ConvHead, Encoder, MaskedExpressionModel


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
    config: dict[str, Any], n_genes: int, n_types: int | None
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
    sizes = (network.dim, len(vectors_VD), n_types)
    return CellTypeModel(encoder, new_head(head, *sizes, seed=0))
