"""Counts -> expression, log2(1 + counts per 10,000) -> bins -> tokens.

Source: Yang et al. 2022, Methods; scBERT@262fd4b, preprocess.py, which takes the logarithm to base
2 (the paper does not say) and divides by the counts of the genes that it knows.
"""

from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.quality import cell_sums
from scbert.config import Normalization
from scbert.genes.matching import GeneMatch, align, vocabulary_sha256

CELLS_AT_ONCE = 256
LEVELS = 16  # per bin; a step is 4 % of a count
HIGHEST_LEVEL = 255  # one byte


def denominators(aligned: sparse.csr_matrix, library_size: np.ndarray, kind: str) -> np.ndarray:
    """Return the counts to divide by, shape (cells,).

    Parameters
    ----------
    aligned
        Counts of the genes of the vocabulary, shape (cells, vocabulary).
    kind
        library: all counts of the cell; vocabulary: those in `aligned`.
    """
    return library_size if kind == "library" else cell_sums(aligned)


def normalize(
    counts: sparse.csr_matrix, library_size: np.ndarray, target_sum: float
) -> sparse.csr_matrix:
    """Return log2(1 + counts per `target_sum`).

    Parameters
    ----------
    counts
        Shape (cells, genes).
    library_size
        Counts to divide by, shape (cells,): all of the cell's, or those of the genes in `counts`.
    target_sum
        Counts per cell to scale to.

    Returns
    -------
    Shape (cells, genes), float32. A cell without counts stays all zeros.

    Raises
    ------
    ValueError
        If a count is negative, or a cell has more counts than its library or an unknown one.
    """
    if counts.nnz and counts.data.min() < 0:
        raise ValueError(
            f"counts hold {counts.data.min()}, but a count is never negative. Pass raw counts."
        )
    sums = cell_sums(counts)
    if not (sums <= library_size * 1.01).all():  # NaN among them
        cell = int(np.argmax(sums - library_size))
        raise ValueError(
            f"cell {cell} has {sums[cell]:.0f} counts but a library of {library_size[cell]:.0f}. "
            "Give the column of obs that holds all counts of each cell, or none."
        )
    factors = np.divide(
        target_sum, library_size, out=np.zeros_like(sums, dtype=np.float64), where=library_size > 0
    )
    expression = sparse.csr_matrix(
        (_log2_scaled(counts, factors), counts.indices.copy(), counts.indptr.copy()), counts.shape
    )
    expression.eliminate_zeros()
    return expression


def _log2_scaled(counts: sparse.csr_matrix, factors: np.ndarray) -> np.ndarray:
    """Return log2(1 + factor x count) of the stored counts, float32 (counts,).

    The sum is in float64: a count on the edge of two bins, such as 3 per 10,000, stays on it. A few
    cells at once: a copy of a large sample in float64 would be the peak of memory.
    """
    values = np.empty(counts.nnz, dtype=np.float32)
    for cell in range(0, counts.shape[0], CELLS_AT_ONCE):
        ends = counts.indptr[cell : cell + CELLS_AT_ONCE + 1]
        part = slice(ends[0], ends[-1])
        scaled = np.repeat(factors[cell : cell + CELLS_AT_ONCE], np.diff(ends))
        scaled *= counts.data[part]
        scaled += 1
        np.log2(scaled, out=values[part], casting="same_kind")
    return values


def levels_of_expression(expression: sparse.csr_matrix) -> sparse.csr_matrix:
    """Replace each expression value by the number of its level.

    Parameters
    ----------
    expression
        Shape (cells, genes), in log2(1 + counts per 10 000).

    Returns
    -------
    Shape (cells, genes), uint8. Level l holds [l, l + 1) sixteenths, level 255 all above. Silent
    genes, and expressed genes below 1, are no tokens and not stored.

    Raises
    ------
    ValueError
        If a value is negative or NaN: the matrix is then not log-normalised.
    """
    lowest = expression.data.min() if expression.nnz else 0
    if not lowest >= 0:
        raise ValueError(
            f"expression holds {lowest}, but log2(1 + CP10K) is never negative. "
            "Pass the output of normalize(), not scaled or raw data."
        )
    # Times 16 is exact, also in float32, and the cast floors.
    levels = np.minimum(expression.data * LEVELS, HIGHEST_LEVEL).astype(np.uint8)
    levels[levels < LEVELS] = 0
    tokens = sparse.csr_matrix(
        (levels, expression.indices.copy(), expression.indptr.copy()), shape=expression.shape
    )
    tokens.eliminate_zeros()
    tokens.sort_indices()
    return tokens


def bins_of_levels(levels: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the bins of levels, uint8, of the same shape.

    Bin b holds [b, b + 1) of log2(1 + counts per 10 000), the last bin, `n_bins`, all above.
    """
    return np.minimum(levels // LEVELS, n_bins).astype(np.uint8)


@dataclass(frozen=True)
class Sample:
    """The tokens of one file of cells.

    `levels` has shape (cells, vocabulary), uint8, of which the network sees `n_bins` bins;
    `measured` holds the genes of the vocabulary that the file measured, ascending: a gene that is
    missing there is unknown, not silent. `below_one` counts the expressed genes that fell into bin
    0. Quality control may have left no cell.
    """

    name: str
    cells: list[str]
    levels: sparse.csr_matrix
    n_bins: int
    measured: np.ndarray
    below_one: int

    def measured_row(self) -> np.ndarray:
        """Return which genes of the vocabulary were measured, bool (vocabulary,)."""
        row = np.zeros(self.levels.shape[1], dtype=bool)
        row[self.measured] = True
        return row


def read_tokens(path: Path, n_bins: int, vocabulary: pd.DataFrame) -> Sample:
    """Read a file of expression and bin it."""
    expression = ad.read_h5ad(path)
    if expression.uns.get("vocabulary_sha256") != vocabulary_sha256(vocabulary):
        raise ValueError(
            f"{path} was made with another vocabulary, so its gene numbers mean other genes. "
            "Normalise the counts again (rule normalize_counts)."
        )
    return tokens_of_expression(path.stem, expression, len(vocabulary), n_bins)


def tokens_of_expression(name: str, expression: ad.AnnData, n_genes: int, n_bins: int) -> Sample:
    """Bin the expression of one file, its columns placed in the vocabulary."""
    measured = expression.var.vocabulary_index.to_numpy()
    values = sparse.csr_matrix(expression.X)
    place = measured.astype(values.indices.dtype)
    placed = sparse.csr_matrix(
        (values.data, place[values.indices], values.indptr), (expression.n_obs, n_genes)
    )
    return tokenize(name, expression.obs_names.tolist(), placed, measured, n_bins)


def expression_of_counts(
    counts: sparse.csr_matrix,
    library_size: np.ndarray,
    genes: GeneMatch,
    normalization: Normalization,
    share: float = 1.0,
) -> sparse.csr_matrix:
    """Return the expression of the vocabulary's genes, shape (cells, vocabulary), see `normalize`.

    Parameters
    ----------
    counts
        Shape (cells, genes of the file).
    library_size
        All counts of each cell, shape (cells,).
    genes
        Which gene of the vocabulary each gene of the file is.
    share
        Of such cells' counts of the vocabulary's genes that the genes of the file hold, where a
        library is no more than the sum over the file. It is taken to be at least what that tells.
    """
    aligned = align(counts, genes)
    size = denominators(aligned, library_size, normalization.denominator)
    if share < 1:
        size = np.maximum(size, cell_sums(aligned) / share)
    return normalize(aligned, size, normalization.target_sum)


def tokenize(
    name: str, cells: list[str], expression: sparse.csr_matrix, measured: np.ndarray, n_bins: int
) -> Sample:
    """Turn expression over the vocabulary, shape (cells, vocabulary), into tokens."""
    levels = levels_of_expression(expression)
    below_one = int(np.count_nonzero(expression.data) - levels.nnz)
    return Sample(name, cells, levels, n_bins, measured, below_one)
