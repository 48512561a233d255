"""Counts -> expression: log2(1 + counts per 10,000).

Source: Yang et al. 2022, Methods; scBERT@262fd4b, preprocess.py, which takes the logarithm to base
2 (the paper does not say) and divides by the counts of the genes that it knows.
"""

import numpy as np
from scipy import sparse


def cell_sums(counts: sparse.csr_matrix) -> np.ndarray:
    """Return the counts of each cell, shape (cells,)."""
    return np.asarray(counts.sum(axis=1)).ravel()


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
    expression = sparse.csr_matrix(sparse.diags_array(factors) @ counts.astype(np.float64))
    expression.data = np.log2(1 + expression.data)
    return expression.astype(np.float32)
