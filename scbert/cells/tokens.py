"""Expression -> tokens.

A token is a gene and the level of its expression: log2(1 + CP10K) in steps of a sixteenth. The
network sees the whole part, the bin (Yang et al. 2022, Methods; scBERT@262fd4b, pretrain.py: floor
of log2(1 + CP10K)); the linear experts see the level, for the bins cost them 0.6 to 4 points of
macro F1 (docs/decisions). Only genes with bin >= 1 are tokens.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

LEVELS = 16  # per bin; a step is 4 % of a count
HIGHEST_LEVEL = 255  # one byte
MOST_BINS = HIGHEST_LEVEL // LEVELS


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
    levels = np.minimum(expression.data * LEVELS, HIGHEST_LEVEL).astype(np.uint8)  # it floors
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
