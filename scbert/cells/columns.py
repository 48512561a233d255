"""A CSC matrix in a file -> the same as CSR, in memory that does not grow with the file.

In a CSC matrix the values of a gene lie together, those of a cell all over the file: to read a part
of the cells is to read it all. So it is turned once. The cells are divided into ranges of about
VALUES_AT_ONCE values, whose place in the result is known beforehand. The genes are read from first
to last, each value is put into the place of its range, and at last each range is sorted by cell.
"""

from itertools import pairwise
from typing import Any

import h5py
import numpy as np

VALUES_AT_ONCE = 2**23


def turn(
    data: Any, indices: Any, ends_of_genes: np.ndarray, n_cells: int, to: h5py.Group
) -> tuple[Any, Any, np.ndarray]:
    """Write the CSR form to another file, without compression.

    Parameters
    ----------
    data, indices, ends_of_genes
        Of the CSC matrix; `ends_of_genes` (genes + 1,) ascends.
    to
        A new HDF5 file, open as long as the result is read.

    Returns
    -------
    data, indices (HDF5 datasets; the genes of a cell ascend) and indptr (cells + 1,).

    Raises
    ------
    ValueError
        If an index is not that of a cell.
    """
    ends = np.concatenate([[0], np.cumsum(_values_per_cell(indices, n_cells))])
    edges = _edges(ends)  # the first cell of each range
    made = {
        name: to.create_dataset(name, (int(ends[-1]),), kind)
        for name, kind in (("data", data.dtype), ("genes", np.int32), ("cells", np.uint32))
    }
    _spread(data, indices, ends_of_genes, ends, edges, made)
    for first, last in pairwise(edges.tolist()):
        span = slice(int(ends[first]), int(ends[last]))
        order = np.argsort(made["cells"][span], kind="stable")  # genes of a cell keep their order
        for name in ("data", "genes"):
            made[name][span] = made[name][span][order]
    del to["cells"]
    return made["data"], made["genes"], ends


def _values_per_cell(indices: Any, n_cells: int) -> np.ndarray:
    per_cell = np.zeros(n_cells, dtype=np.int64)
    for start in range(0, len(indices), VALUES_AT_ONCE):
        cells = indices[start : start + VALUES_AT_ONCE]
        if cells.min() < 0 or cells.max() >= n_cells:
            raise ValueError(f"it names cell {cells.min()} or {cells.max()} of {n_cells}")
        per_cell += np.bincount(cells, minlength=n_cells)
    return per_cell


def _edges(ends: np.ndarray) -> np.ndarray:
    """Divide the cells into ranges of about VALUES_AT_ONCE values; a range has at least a cell."""
    wanted = np.arange(0, ends[-1], VALUES_AT_ONCE)
    starts = np.searchsorted(ends, wanted, side="right") - 1
    return np.unique([0, *starts, len(ends) - 1])


def _spread(
    data: Any,
    indices: Any,
    ends_of_genes: np.ndarray,
    ends: np.ndarray,
    edges: np.ndarray,
    made: dict[str, Any],
) -> None:
    """Put each value into the place of its range of cells."""
    free = ends[edges[:-1]].copy()
    for start in range(0, len(indices), VALUES_AT_ONCE):
        cells = indices[start : start + VALUES_AT_ONCE].astype(np.int64)
        numbers = np.arange(start, start + len(cells))
        genes = np.searchsorted(ends_of_genes, numbers, side="right") - 1
        parts = {"data": data[start : start + len(cells)], "genes": genes, "cells": cells}
        range_of = np.searchsorted(edges, cells, side="right") - 1
        order = np.argsort(range_of, kind="stable")
        cuts = np.searchsorted(range_of[order], np.arange(len(edges)))
        for number in range(len(free)):
            chosen = order[cuts[number] : cuts[number + 1]]
            place = slice(int(free[number]), int(free[number]) + len(chosen))
            for name, values in parts.items():
                made[name][place] = values[chosen]
            free[number] += len(chosen)
