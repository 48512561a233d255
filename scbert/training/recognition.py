"""Cells that a model has learned from, recognized by the genes that they express.

Gene filters, another scale of the values and other names leave one thing as it was: of the genes
that are still there, those that a training cell expresses are the highest of the same cell in the
test file. A token is a gene above 1 of log2(1 + CP10K), so that in deep cells others, lower ones,
are expressed as well; how many cannot be known after genes were left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scbert.training.seen_cells import SeenCells

ALIKE = 0.9  # shared genes of the two, of the genes of either
FEWEST_EXPRESSED = 12  # shared genes of a cell, below which two may be alike by chance
FEWEST_SHARED = 100  # genes of all, below which the same holds
MOST_LEFT_OUT = 0.2  # of a panel that has hardly more
CELLS_AT_ONCE = 2048
GROUPS = 8  # of training cells with about as many genes


@dataclass(frozen=True)
class Recognized:
    """Which cells are training cells, and which have genes enough to be compared; bool (cells,)."""

    seen: np.ndarray
    compared: np.ndarray


@dataclass(frozen=True)
class _TrainingCells:
    """`expressed` float32 (cells, shared genes), of which each cell has `n`, int64 (cells,)."""

    expressed: np.ndarray
    n: np.ndarray


def recognize(seen: SeenCells, expression: sparse.csr_matrix) -> Recognized:
    """Compare cells with those of the training, over the genes that both have.

    Parameters
    ----------
    expression
        Shape (cells, vocabulary), on any scale that keeps the order of a cell's values; 0 is not
        expressed.

    Returns
    -------
    Of a model that an older version trained: no cell is compared.
    """
    none = np.zeros(expression.shape[0], dtype=bool)
    if seen.genes is None:
        return Recognized(none, none)
    genes = expression.tocsc()[:, seen.genes]
    shared = np.flatnonzero(genes.getnnz(axis=0))  # a gene without any count may be one left out
    if len(shared) < min(FEWEST_SHARED, (1 - MOST_LEFT_OUT) * len(seen.genes)):
        return Recognized(none, none)
    cells = genes[:, shared].tocsr()
    groups = list(_groups(seen, shared))
    found = [
        _alike(cells[start : start + CELLS_AT_ONCE].toarray(), groups)
        for start in range(0, cells.shape[0], CELLS_AT_ONCE)
    ]
    return Recognized(np.concatenate([none[:0], *found]), cells.getnnz(axis=1) >= FEWEST_EXPRESSED)


def _groups(seen: SeenCells, shared: np.ndarray) -> Iterator[_TrainingCells]:
    """Yield training cells that express about as many of the shared genes."""
    assert seen.genes is not None
    assert seen.expressed is not None
    for start in range(0, len(seen.expressed), CELLS_AT_ONCE * GROUPS):
        packed = seen.expressed[start : start + CELLS_AT_ONCE * GROUPS]
        bits = np.unpackbits(packed, axis=1, count=len(seen.genes))[:, shared]
        n = bits.sum(axis=1, dtype=np.int64)
        order = np.argsort(n, kind="stable")
        for rows in np.array_split(order[n[order] >= FEWEST_EXPRESSED], GROUPS):
            if len(rows):
                yield _TrainingCells(bits[rows].astype(np.float32), n[rows])


def _alike(values: np.ndarray, groups: list[_TrainingCells]) -> np.ndarray:
    """Return which cells are like a training cell; `values` has shape (cells, shared genes)."""
    found = np.zeros(len(values), dtype=bool)
    highest = -np.sort(-values, axis=1)
    for group in groups:
        # With as many genes as the fullest cell of the group: too many for others, never too few.
        candidates = _highest(values, highest[:, group.n.max() - 1, None])
        shared = candidates.astype(np.float32) @ group.expressed.T
        cell, other = np.nonzero(shared >= ALIKE * group.n)
        for start in range(0, len(cell), CELLS_AT_ONCE):
            pairs = slice(start, start + CELLS_AT_ONCE)
            one, two = cell[pairs], other[pairs]
            expressed = group.expressed[two] > 0
            own = _highest(values[one], highest[one, group.n[two] - 1, None])
            both, either = (own & expressed).sum(axis=1), (own | expressed).sum(axis=1)
            found[one[both >= ALIKE * either]] = True
    return found


def _highest(values: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Return the expressed genes of at least this value; equal ones are all among them."""
    return (values >= least) & (values > 0)
