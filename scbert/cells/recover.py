"""From normalised values back to counts: exactly, or one count of each cell and its sum."""

import numpy as np
from scipy import sparse

from scbert.cells.scale import STEPS_TO_LOOK_AT, Scale

FEW_COUNTS = 20  # larger multiples cannot be told from their neighbours in float32
NEAR = 0.02
SMALLEST_COUNTS = (1, 2, 3, 4)  # that the smallest value of a cell may be
MOST_COUNTS = 300_000  # of a cell, of which the sum is looked for
USUAL_SUMS = (1e4, 1e6)
LOOKED_AT = 20  # cells, by which most sums are refused
PRIMES = np.array([n for n in range(2, 1000) if all(n % d for d in range(2, int(n**0.5) + 1))])
FEWEST_FOR_USUAL, FEWEST_FOR_ANY = 5, 30  # cells; that they agree by chance is next to impossible


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
    require_integers(counts, scale)
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


def require_integers(counts: sparse.csr_matrix, scale: Scale) -> None:
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


def steps_of(linear: sparse.csr_matrix) -> np.ndarray:
    """Return the value of one count of each cell, shape (cells,); 0 for a cell without any.

    Parameters
    ----------
    linear
        Counts divided by a number of each cell, shape (cells, genes), without stored zeros.
    """
    n_cells, per_cell = linear.shape[0], np.diff(linear.indptr)
    steps, filled = np.zeros(n_cells), per_cell > 0
    if not filled.any():
        return steps
    smallest = _smallest(linear)
    cell = np.repeat(np.arange(n_cells), per_cell)
    multiples = linear.data / smallest[cell]
    open_cells = filled.copy()
    for count in SMALLEST_COUNTS:
        of_one = multiples * count
        whole = np.round(of_one)
        looked_at = (whole < FEW_COUNTS) & open_cells[cell]
        near = looked_at & (np.abs(of_one - whole) < NEAR)
        n_near, n_looked = (
            np.bincount(cell[which], minlength=n_cells) for which in (near, looked_at)
        )
        done = open_cells & (n_near >= 0.95 * n_looked)
        values = np.bincount(cell[near], linear.data[near], n_cells)
        counts = np.bincount(cell[near], whole[near], n_cells)
        steps[done] = values[done] / counts[done]
        open_cells &= ~done
    steps[open_cells] = smallest[open_cells]
    return steps


def find_sum(steps: np.ndarray, sums: np.ndarray) -> float | None:
    """Find the sum of which each cell's step is a whole fraction; None: there is no such sum.

    Parameters
    ----------
    steps, sums
        Shape (cells,): the value of one count, and the sum over the genes that are there, which
        cannot be above what is looked for.
    """
    least = 0.999 * sums.max()  # of float32 logarithms taken back, so a little off
    for total in USUAL_SUMS:
        if np.abs(sums / total - 1).max() < 1e-3:  # also of a single cell
            return total
        if total >= least and len(steps) >= FEWEST_FOR_USUAL and _fits(steps, total):
            found = _smallest_sum(steps, total, least)
            return None if _of_several(steps, found) else found
    if len(steps) < FEWEST_FOR_ANY:
        return None
    for share in (0.95, 0.75, 0.5):  # of few counts, where the fraction is most certain
        cell = int(np.argsort(steps)[int(share * (len(steps) - 1))])
        first = max(1, int(least / steps[cell]))
        totals = np.arange(first, max(first, MOST_COUNTS) + 1) * steps[cell]
        whole = np.zeros(len(totals))
        others = steps[np.linspace(0, len(steps) - 1, LOOKED_AT).astype(int)]
        for other in others:
            whole += _is_whole(totals / other)
        fitting = totals[whole >= 0.9 * LOOKED_AT]
        smallest = next((total for total in fitting.tolist() if _fits(steps, total)), None)
        if smallest:
            return None if _of_several(steps, smallest) else float(f"{smallest:.7g}")
    return None


def share_of_whole(steps: np.ndarray, total: float) -> float:
    """Return the share of the cells of which the step is a whole fraction of the sum."""
    return float(_is_whole(total / steps).mean())


def _fits(steps: np.ndarray, total: float) -> bool:
    return share_of_whole(steps, total) > 0.9


def _of_several(steps: np.ndarray, total: float) -> bool:
    """Whether the sum is a common multiple of those of several groups of cells.

    The counts of a group are then multiples of a number, far more often than counts are.
    """
    counts = np.round(total / steps)
    shares = (counts[:, None] % PRIMES == 0).mean(axis=0)
    if len(steps) < FEWEST_FOR_ANY:  # some share a factor by chance
        return bool((shares > 0.9).any())
    # Of counts that nothing was multiplied with, a prime p divides one in p.
    by_chance = 1 / PRIMES
    spread = np.sqrt(by_chance * (1 - by_chance) / len(steps))
    return bool((shares > by_chance + np.maximum(0.15, 4 * spread)).any())


def _is_whole(counts: np.ndarray) -> np.ndarray:
    # Float32 keeps the number of all counts to some 3e-7 of itself.
    tolerance = np.minimum(0.1, NEAR + 5e-7 * counts)
    return np.abs(counts - np.round(counts)) < tolerance


def _smallest_sum(steps: np.ndarray, total: float, least: float) -> float:
    """Return the sum of which this is a multiple, if it is one of another that fits."""
    for factor in (2, 3, 5, 7):
        while (
            len(steps) >= FEWEST_FOR_ANY
            and total / factor >= least
            and _fits(steps, total / factor)
        ):
            total /= factor
    return total
