"""Matrices of cells, read a part of the cells at a time: in memory, or where they lie in a file.

A CSC matrix in a file is turned to CSR in memory that does not grow with the file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import h5py
import numpy as np
from scipy import sparse

from scbert.cells.how_to_read import WHOLE, Piece
from scbert.files import DAMAGE

VALUES_AT_ONCE = 2**24  # of a part, silent genes included: a sparse file may have none
CELLS_AT_ONCE = 8192
VALUES_TO_TURN = 2**23
ROWS_TO_LOOK_AT = 200  # cells that stand for all of a matrix


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


@dataclass(frozen=True)
class Parts:
    """A matrix (cells, genes) of which a part is read at a time.

    `data`, `indices` and `indptr` are those of a CSR matrix, arrays or HDF5 datasets; of a dense
    matrix there is only `data`. `kept` says of each stored column whether it is one of the genes;
    None: all are. `name` is what to call it in errors, such as "X of query.h5ad". `others` are the
    matrices that its file has besides.
    """

    name: str
    shape: tuple[int, int]
    data: Any
    indices: Any = None
    indptr: np.ndarray | None = None
    kept: np.ndarray | None = None
    others: tuple[str, ...] = ()

    def read(self, start: int, stop: int) -> sparse.csr_matrix:
        """Return a copy of these cells without stored zeros: what is stored is expressed.

        Raises
        ------
        ValueError
            If they are damaged.
        """
        try:
            part = self._read(start, stop)
            require_intact(part)
            if self.kept is not None:
                part = part[:, self.kept]
        except (ValueError, TypeError, RuntimeError, *DAMAGE) as error:
            raise damaged_matrix(self.name, error) from error
        part.sum_duplicates()
        part.eliminate_zeros()
        return part

    def _read(self, start: int, stop: int) -> sparse.csr_matrix:
        if self.indptr is None:
            return sparse.csr_matrix(as_numbers(np.asarray(self.data[start:stop])), copy=True)
        ends = self.indptr[start : stop + 1]
        span = slice(int(ends[0]), int(ends[-1]))
        shape = (stop - start, self.shape[1] if self.kept is None else len(self.kept))
        values, genes = as_numbers(np.array(self.data[span])), np.array(self.indices[span])
        return sparse.csr_matrix((values, genes, ends - ends[0]), shape)

    def some(self, among: np.ndarray | None = None) -> tuple[np.ndarray, sparse.csr_matrix]:
        """Read up to ROWS_TO_LOOK_AT of the cells, evenly spread; return their numbers and them.

        Parameters
        ----------
        among
            Numbers of the cells that may be taken, at least one; None: all.
        """
        rows = some_rows(np.arange(self.shape[0]) if among is None else among)
        return rows, sparse.vstack([self.read(row, row + 1) for row in rows.tolist()], format="csr")

    def each(self, piece: Piece = WHOLE) -> Iterator[tuple[int, sparse.csr_matrix]]:
        """Yield the number of the first cell of each part of a piece, and the part."""
        at_once = int(np.clip(VALUES_AT_ONCE // max(1, self.shape[1]), 1, CELLS_AT_ONCE))
        for part in piece.of_parts(-(-self.shape[0] // at_once)):
            start = part * at_once
            yield start, self.read(start, min(start + at_once, self.shape[0]))


def parts_in_memory(values: Any, name: str) -> Parts:
    """Look at a matrix without copying it, unless it is sparse and not CSR.

    Raises
    ------
    ValueError
        If it is not a matrix of numbers, or damaged.
    """
    try:
        if not sparse.issparse(values):
            array = np.asarray(values)
            return Parts(name, require_two_sides(array.shape), array)
        if values.format in ("csr", "csc"):
            require_intact(values)
        rows = sparse.csr_matrix(values)
    except (ValueError, TypeError) as error:
        raise damaged_matrix(name, error) from error
    return Parts(name, rows.shape, rows.data, rows.indices, rows.indptr)


def as_numbers(values: np.ndarray) -> np.ndarray:
    """Return the values in a type that scipy computes with; booleans are 0 and 1.

    Small integers become int32: entries that are stored twice are added up.

    Raises
    ------
    ValueError
        If they are not real numbers.
    """
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind not in "biuf":
        raise ValueError(f"its values are of type {values.dtype}, but numbers are needed")
    if kind == "f":
        known = np.float32 if size < 8 else np.float64
        return values.astype(known, copy=False)
    if kind == "b" or size < 4:
        return values.astype(np.int32)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def some_rows(rows: np.ndarray) -> np.ndarray:
    """Return up to ROWS_TO_LOOK_AT of the rows, evenly spread."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, ROWS_TO_LOOK_AT).astype(int))]


def require_two_sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of a matrix."""
    if len(shape) != 2:
        raise ValueError(f"its shape is {shape}, not cells x genes")
    return int(shape[0]), int(shape[1])


def damaged_matrix(name: str, error: Exception) -> ValueError:
    """Return the error of a matrix that cannot be read."""
    return ValueError(f"{name} is a damaged matrix ({error}). Write or download the file again.")


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
    for start in range(0, indices.size, VALUES_TO_TURN):
        cells = indices[start : start + VALUES_TO_TURN]
        if cells.min() < 0 or cells.max() >= n_cells:
            raise ValueError(f"it names cell {cells.min()} or {cells.max()} of {n_cells}")
        per_cell += np.bincount(cells, minlength=n_cells)
    return per_cell


def _edges(ends: np.ndarray) -> np.ndarray:
    """Divide the cells into ranges of about VALUES_AT_ONCE values; a range has at least a cell."""
    wanted = np.arange(0, ends[-1], VALUES_TO_TURN)
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
    for start in range(0, indices.size, VALUES_TO_TURN):
        cells = indices[start : start + VALUES_TO_TURN].astype(np.int64)
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
