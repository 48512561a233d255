"""Sparse matrices that come from a file, and may be damaged."""

import numpy as np
from scipy import sparse


def require_intact(matrix: sparse.csr_matrix | sparse.csc_matrix) -> None:
    """Check what scipy's C code trusts: a wrong index would read beyond the end of memory.

    Raises
    ------
    ValueError
        If the indices do not ascend from row to row, or point beyond the matrix.
    """
    if (np.diff(matrix.indptr) < 0).any():  # check_format skips this if the last one is below 1
        raise ValueError("indptr must not descend")
    matrix.check_format(full_check=True)
