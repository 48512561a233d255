"""Expression -> tokens.

A token is a gene and the bin of its expression. Only genes with bin >= 1 are tokens.
Source of the bins: Yang et al. 2022, Methods; scBERT@262fd4b, pretrain.py (floor of log2(1 +
CP10K)).
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse


def bin_expression(expression: sparse.csr_matrix, n_bins: int) -> sparse.csr_matrix:
    """Replace each expression value by the number of its bin.

    Parameters
    ----------
    expression
        Shape (cells, genes), in log2(1 + counts per 10 000).
    n_bins
        Number of bins above bin 0; larger values fall into the last one.

    Returns
    -------
    Shape (cells, genes), uint8. Bin b holds [b, b + 1): bin 0 holds silent genes and also expressed
    genes below 1, and is not stored.

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
    bins = np.minimum(expression.data, n_bins).astype(np.uint8)  # the cast floors
    tokens = sparse.csr_matrix(
        (bins, expression.indices.copy(), expression.indptr.copy()), shape=expression.shape
    )
    tokens.eliminate_zeros()
    tokens.sort_indices()
    return tokens


@dataclass(frozen=True)
class Sample:
    """The tokens of one file of cells.

    `bins` has shape (cells, vocabulary), uint8; `measured` holds the genes of the vocabulary that
    the file measured, ascending: a gene that is missing there is unknown, not silent. `below_one`
    counts the expressed genes that fell into bin 0. Quality control may have left no cell.
    """

    name: str
    cells: list[str]
    bins: sparse.csr_matrix
    measured: np.ndarray
    below_one: int

    def measured_row(self) -> np.ndarray:
        """Return which genes of the vocabulary were measured, bool (vocabulary,)."""
        row = np.zeros(self.bins.shape[1], dtype=bool)
        row[self.measured] = True
        return row
