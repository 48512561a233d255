"""From log-normalised expression back to counts, where that can be done exactly."""

import numpy as np
from scipy import sparse

from scbert.cells.scale import STEPS_TO_LOOK_AT, Scale


def recover_counts(
    matrix: sparse.csr_matrix, scale: Scale, library_size: np.ndarray | None, target_sum: float
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Take log-normalised expression back to counts.

    Parameters
    ----------
    matrix
        Shape (cells, genes), as `guess_scale` saw it.
    library_size
        All counts of each cell, shape (cells,); None: the smallest value of a cell is one count.
    target_sum
        Counts per cell of the normalisation, where the matrix itself does not tell.

    Returns
    -------
    Counts, and all counts of each cell, shape (cells,).

    Raises
    ------
    ValueError
        If the result is not close to integers, in all or in some cells, or if `target_sum` cannot
        be what was normalised to.
    """
    total = scale.target_sum or target_sum
    linear = scale.linear(matrix)
    linear.eliminate_zeros()
    highest = linear.sum(axis=1).max()
    if highest > 1.01 * total:
        raise ValueError(
            f"the values of a cell add up to {highest:,.0f}, but they were taken as {scale} and "
            f"normalization.target_sum is {target_sum:,.0f}. Give raw counts, or all genes."
        )
    smallest = _smallest(linear)
    if library_size is None:
        library_size = np.divide(total, smallest, out=np.zeros_like(smallest), where=smallest > 0)
    counts = sparse.csr_matrix(sparse.diags_array(library_size / total) @ linear)
    require_whole(counts, scale)
    counts.data = np.round(counts.data).astype(np.float32)
    counts.eliminate_zeros()
    return counts.astype(np.float32), library_size


def _smallest(matrix: sparse.csr_matrix) -> np.ndarray:
    """Return the smallest stored value of each row, shape (rows,); 0 for a row without any."""
    smallest = np.zeros(matrix.shape[0])
    filled = np.diff(matrix.indptr) > 0
    if filled.any():
        smallest[filled] = np.minimum.reduceat(matrix.data, matrix.indptr[:-1][filled])
    return smallest


def require_whole(counts: sparse.csr_matrix, scale: Scale) -> None:
    """Refuse counts that are not whole; large ones and those of one are no evidence."""
    rounded = np.round(counts.data)
    off = np.abs(counts.data - rounded) > 0.05 * np.maximum(rounded, 1)
    evidence = (rounded < STEPS_TO_LOOK_AT) & ((rounded != 1) | off)
    cell = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    n_off, n_evidence = (
        np.bincount(cell[which], minlength=counts.shape[0]) for which in (evidence & off, evidence)
    )
    n_wrong = int(((n_evidence >= 3) & (n_off > 0.5 * n_evidence)).sum())
    smallest = float(np.median(_smallest(counts)))
    never_one = scale.target_sum is None and smallest > 1.5
    only_large = not evidence.any() and bool((rounded >= STEPS_TO_LOOK_AT).any())
    if n_wrong or n_off.sum() > 0.02 * n_evidence.sum() or never_one or only_large:
        raise ValueError(
            f"the values do not come back as whole counts: {n_off.sum():,} of "
            f"{n_evidence.sum():,} below {STEPS_TO_LOOK_AT} are not integers ({n_wrong} cells are "
            f"wrong as a whole), and the smallest of a cell is {smallest:.3g}. "
            f"They were taken as {scale}. Give raw counts, or the column of obs that holds the "
            "library size that was divided by."
        )
