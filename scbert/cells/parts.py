"""Matrices of cells, read a part of the cells at a time: in memory, or where they lie in a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from scbert.cells.matrices import require_intact

VALUES_AT_ONCE = 2**24  # of a part, silent genes included: a sparse file may have none
CELLS_AT_ONCE = 8192


@dataclass(frozen=True)
class Parts:
    """A matrix (cells, genes) of which a part is read at a time.

    `data`, `indices` and `indptr` are those of a CSR matrix, arrays or HDF5 datasets; of a dense
    matrix there is only `data`. `kept` says of each stored column whether it is one of the genes;
    None: all are. `name` is what to call it in errors, such as "X of query.h5ad".
    """

    name: str
    shape: tuple[int, int]
    data: Any
    indices: Any = None
    indptr: np.ndarray | None = None
    kept: np.ndarray | None = None

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
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise damaged(self.name, error) from error
        part.sum_duplicates()
        part.eliminate_zeros()
        return part

    def _read(self, start: int, stop: int) -> sparse.csr_matrix:
        if self.indptr is None:
            return sparse.csr_matrix(np.asarray(self.data[start:stop]), copy=True)
        ends = self.indptr[start : stop + 1]
        span = slice(int(ends[0]), int(ends[-1]))
        shape = (stop - start, self.shape[1] if self.kept is None else len(self.kept))
        values, genes = np.array(self.data[span]), np.array(self.indices[span])
        return sparse.csr_matrix((values, genes, ends - ends[0]), shape)

    def each(self) -> Iterator[tuple[int, sparse.csr_matrix]]:
        """Yield the number of the first cell of each part, and the part."""
        at_once = int(np.clip(VALUES_AT_ONCE // max(1, self.shape[1]), 1, CELLS_AT_ONCE))
        for start in range(0, self.shape[0], at_once):
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
        raise damaged(name, error) from error
    return Parts(name, rows.shape, rows.data, rows.indices, rows.indptr)


def require_two_sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape of a matrix."""
    if len(shape) != 2:
        raise ValueError(f"its shape is {shape}, not cells x genes")
    return int(shape[0]), int(shape[1])


def damaged(name: str, error: Exception) -> ValueError:
    """Return the error of a matrix that cannot be read."""
    return ValueError(f"{name} is a damaged matrix ({error}). Write or download the file again.")
