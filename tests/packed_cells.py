"""Small stores of cells with given numbers of expressed genes, and a network for them."""

import numpy as np
import torch

from scbert.config import Network
from scbert.network.model import Encoder, MaskedExpressionModel
from scbert.tokens.store import TokenStore
from scbert.tokens.tokenize import LEVELS
from scbert.training.cell_batches import CellBatches

N_BINS = 5


def store_of(lengths, n_genes=60, seed=0):
    rng = np.random.default_rng(seed)
    genes = [np.sort(rng.choice(n_genes, length, replace=False)) for length in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenStore(
        gene=np.concatenate([*genes, []]).astype(np.uint16),
        level=rng.integers(1, N_BINS + 1, indptr[-1]).astype(np.uint8) * np.uint8(LEVELS),
        n_bins=N_BINS,
        indptr=indptr,
        sample=np.zeros(len(lengths), np.uint32),
        measured=np.ones((1, n_genes), dtype=bool),
        names=[str(number) for number in range(len(lengths))],
        meta={},
    )


def batches(layout, lengths, budget=200, constant=False, n_genes=60):
    store = store_of(lengths, n_genes)
    return CellBatches(store, "expressed_genes", N_BINS, budget, layout=layout, constant=constant)


def network(config, **values):
    return Network.model_validate(config.network.model_dump() | {"attention": "exact"} | values)


def model_of(network_settings, n_genes=60):
    torch.manual_seed(0)
    vectors = torch.randn(n_genes, network_settings.dim)
    encoder = Encoder(network_settings, N_BINS, vectors, seed=0)
    return MaskedExpressionModel(encoder, network_settings.dim, N_BINS)


def logits(model, batch):
    return model(batch.genes_BG, batch.tokens_BG, batch.cells)
