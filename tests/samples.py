"""A dataset of the configuration, samples of tokens told by their bins, a matrix of an AnnData."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from scbert.cells.how_to_read import HowToRead
from scbert.cells.read import matrix_of
from scbert.config import Dataset
from scbert.tokens.tokenize import LEVELS, Sample

N_BINS = 5
DATASET = Dataset(
    dataset="toy",
    file="toy.h5ad",
    matrix="auto",
    scale="auto",
    label_key="cell_type",
    batch_key="",
    library_size_key="",
    in_corpus="yes",
    ontology="",
)


def sample_of(
    name: str, cells: list[str], bins: sparse.csr_matrix, measured: Sequence[int], below_one: int
) -> Sample:
    """Return tokens in the lowest level of each bin."""
    levels = sparse.csr_matrix(bins).astype(np.uint8)
    levels.data = levels.data * np.uint8(LEVELS)
    return Sample(name, cells, levels, N_BINS, np.asarray(measured), below_one)


def select_matrix(adata, choice, name):
    """Return a matrix of the AnnData as `matrix_of` chooses it, its genes and what it is called."""
    chosen = matrix_of(adata, HowToRead(choice), name)
    return chosen.parts.read(0, adata.n_obs), chosen.genes, chosen.found
