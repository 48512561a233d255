"""Counts -> expression: log2(1 + counts per 10,000).

Source: Yang et al. 2022, Methods; scBERT@262fd4b, preprocess.py, which takes the logarithm to base
2 (the paper does not say) and divides by the counts of the genes that it knows.
"""

import numpy as np
from scipy import sparse

CELLS_AT_ONCE = 256


def cell_sums(counts: sparse.csr_matrix) -> np.ndarray:
    """Return the counts of each cell, shape (cells,)."""
    return counts @ np.ones(counts.shape[1])  # in float64, also of float32 counts


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
