"""One count of each cell, and the sum that it is a fraction of, from normalised values."""

import numpy as np
from scipy import sparse

FEW_COUNTS = 20  # larger multiples cannot be told from their neighbours in float32
NEAR = 0.02
SMALLEST_COUNTS = (1, 2, 3, 4)  # that the smallest value of a cell may be
MOST_COUNTS = 300_000  # of a cell, of which the sum is looked for
USUAL_SUMS = (1e4, 1e6)
LOOKED_AT = 20  # cells, by which most sums are refused
PRIMES = np.array([n for n in range(2, 1000) if all(n % d for d in range(2, int(n**0.5) + 1))])
FEWEST_FOR_USUAL, FEWEST_FOR_ANY = 5, 30  # cells; that they agree by chance is next to impossible


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
    smallest = np.ones(n_cells)
    smallest[filled] = np.minimum.reduceat(linear.data, linear.indptr[:-1][filled])
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
            found = _smallest(steps, total, least)
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


def _smallest(steps: np.ndarray, total: float, least: float) -> float:
    """Return the sum of which this is a multiple, if it is one of another that fits."""
    for factor in (2, 3, 5, 7):
        while (
            len(steps) >= FEWEST_FOR_ANY
            and total / factor >= least
            and _fits(steps, total / factor)
        ):
            total /= factor
    return total
