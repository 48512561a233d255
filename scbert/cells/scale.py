"""What a matrix holds: counts, log-normalised expression, or something that cannot be used.

Counts are integers. After log1p of counts per S, the values of a cell, taken back by b^x - 1, are
integer multiples of the smallest one, for the right base b only: one count is one step.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse

BASES = {"e": float(np.e), "2": 2.0, "10": 10.0}
N_CELLS_TO_LOOK_AT = 200
LARGEST_LOG = 25.0  # no log1p of counts per million comes near
STEPS_TO_LOOK_AT = 20  # larger multiples cannot be told from their neighbours in float32


@dataclass(frozen=True)
class Scale:
    """What a matrix holds.

    `target_sum` is the sum of b^x - 1 over the genes of a cell, None where cells differ, as they do
    in a subset of the genes.
    """

    kind: Literal["counts", "log1p"]
    base: float
    target_sum: float | None

    def __str__(self) -> str:
        if self.kind == "counts":
            return "raw counts"
        name = next(name for name, base in BASES.items() if base == self.base)
        total = f"{self.target_sum:,.0f}" if self.target_sum else "an unknown number of"
        return f"log1p to base {name} of {total} counts per cell"


def check_values(matrix: sparse.csr_matrix, name: str) -> None:
    """Refuse what can be neither counts nor log-normalised expression.

    Raises
    ------
    ValueError
        For NaN, infinity or negative values, naming how many and the lowest.
    """
    values = matrix.data
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} holds {np.count_nonzero(~np.isfinite(values))} values that are NaN or "
            f"infinite, but counts "
            "are finite numbers. Remove those cells or genes, or give the matrix that holds raw "
            "counts."
        )
    if values.size and values.min() < 0:
        raise ValueError(
            f"{name} holds negative values (lowest {values.min():.3g}), as scaled or "
            f"batch-corrected data "
            "do, but scBERT needs counts or log-normalised expression. Give the matrix with raw "
            "counts, "
            "such as layers['counts'] or raw.X."
        )


def guess_scale(matrix: sparse.csr_matrix, name: str) -> Scale:
    """Find out what the matrix holds, from up to 200 of its cells.

    Parameters
    ----------
    matrix
        Shape (cells, genes).
    name
        What to call the matrix in errors, such as "X of query.h5ad".

    Raises
    ------
    ValueError
        If the matrix holds NaN or negative values, or neither counts nor log-normalised expression.
    """
    check_values(matrix, name)
    rows = np.unique(np.linspace(0, matrix.shape[0] - 1, N_CELLS_TO_LOOK_AT).astype(int))
    cells = [
        values.astype(np.float64)
        for row in rows
        if (values := matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]).any()
    ]
    cells = [values[values > 0] for values in cells]
    if not cells:
        raise ValueError(f"{name} holds only zeros. Give the matrix that holds the counts.")
    if all(np.array_equal(values, np.round(values)) for values in cells):
        return Scale("counts", np.e, None)
    highest = max(values.max() for values in cells)
    if highest <= LARGEST_LOG:
        for base in BASES.values():
            if _is_stepwise([base**values - 1 for values in cells]):
                return Scale("log1p", base, _common_sum(cells, base))
        for base in BASES.values():
            if total := _common_sum(
                cells, base
            ):  # such as log1p of TPM, whose steps differ by gene
                return Scale("log1p", base, total)
    raise ValueError(
        f"{name} holds values up to {highest:.4g} that are neither counts (not integers) nor "
        f"log1p of "
        "counts per cell (taken back, they are not multiples of one count, nor do they add up to "
        "the "
        "same number in each cell). Give raw counts, or log1p of counts per 10,000."
    )


def _is_stepwise(cells: list[np.ndarray]) -> bool:
    """Whether nearly all values are integer multiples of the smallest value of their cell."""
    steps = np.concatenate([values / values.min() for values in cells])
    steps = steps[(steps > 1.2) & (steps < STEPS_TO_LOOK_AT)]
    return bool(steps.size >= 10 and np.mean(np.abs(steps - np.round(steps)) < 0.02) > 0.95)


def _common_sum(cells: list[np.ndarray], base: float) -> float | None:
    sums = np.array([np.sum(base**values - 1) for values in cells])
    same = len(sums) > 1 and sums.std() < 1e-3 * sums.mean()
    return float(np.round(sums.mean(), -1)) if same else None


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
        If the result is not close to integers.
    """
    total = scale.target_sum or target_sum
    linear = matrix.astype(np.float64)
    linear.data = scale.base**linear.data - 1
    if library_size is None:
        smallest = np.array([row.data.min() if row.nnz else np.nan for row in linear])
        library_size = np.where(np.isnan(smallest), 0, total / smallest)
    counts = sparse.csr_matrix(sparse.diags_array(library_size / total) @ linear)
    rounded = np.round(counts.data)
    worst = np.abs(counts.data - rounded) / np.maximum(rounded, 1)
    if worst.size and np.quantile(worst, 0.99) > 0.05:
        raise ValueError(
            f"the values do not come back as whole counts: 1 in 100 is off by more than "
            f"{np.quantile(worst, 0.99):.2f}. "
            f"They were taken as {scale}. Give raw counts, or the column of obs that holds the "
            f"library "
            "size that was divided by."
        )
    counts.data = rounded.astype(np.float32)
    counts.eliminate_zeros()
    return counts, library_size
