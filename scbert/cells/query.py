"""Cells to be annotated, read a part at a time where their file allows it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anndata as ad
import pandas as pd

from scbert.cells.amounts import TOTAL_COLUMNS
from scbert.cells.choose import Candidate, Chosen, choose_matrix
from scbert.cells.h5ad import (
    can_be_streamed,
    column_names,
    open_matrix,
    read_columns,
)
from scbert.cells.how_to_read import HowToRead
from scbert.cells.matrix import Parts
from scbert.cells.plain_text import plain_table
from scbert.cells.read import (
    UNIQUE_CELLS,
    UNIQUE_GENES,
    matrix_of,
    read_cells,
    require_known,
    require_unique,
)
from scbert.cells.tenx import is_10x_h5, open_10x_h5

log = logging.getLogger(__name__)
LARGE_GB = 0.5  # of a file: as a whole in memory, text takes ten times as much


@dataclass(frozen=True)
class QueryCells:
    """The cells of a file or an AnnData, as annotation takes them.

    `chosen` is the matrix, as `reading` says. `obs` has the columns that were asked for and those
    that may hold the counts of whole cells; its index the ids of the cells.
    """

    name: str
    reading: HowToRead
    chosen: Chosen
    obs: pd.DataFrame

    @property
    def found(self) -> str:
        """The name of the matrix."""
        return self.chosen.found

    @property
    def parts(self) -> Parts:
        """The matrix, genes alone."""
        return self.chosen.parts

    @property
    def genes(self) -> pd.DataFrame:
        """The table of its genes."""
        return self.chosen.genes

    def __len__(self) -> int:
        return self.parts.shape[0]


def query_in_memory(
    adata: ad.AnnData, reading: HowToRead, name: str, columns: Sequence[str] = ()
) -> QueryCells:
    """Take the cells of an AnnData, without copying their matrix.

    Parameters
    ----------
    columns
        Of obs, that are needed beside those of `reading`.

    Raises
    ------
    ValueError
        If there is no cell, a matrix or column does not exist, names repeat, or the AnnData is
        backed by a file.
    """
    if adata.isbacked:
        raise ValueError(
            f"{name} is an AnnData whose X is still in {adata.filename}, and what is annotated is "
            "returned in memory. Give that file to `scbert annotate`, which reads it a part at a "
            "time, or adata.to_memory()."
        )
    needed = list(dict.fromkeys([*reading.columns, *columns]))
    _check(adata.obs_names, list(adata.obs.columns), needed, name)
    chosen = matrix_of(adata, reading, name)
    obs = plain_table(adata.obs[_with_totals(needed, list(adata.obs.columns))])
    return QueryCells(name, reading, replace(chosen, genes=plain_table(chosen.genes)), obs)


@contextmanager
def open_query(
    path: Path, reading: HowToRead, workspace: Path, name: str, columns: Sequence[str] = ()
) -> Iterator[QueryCells]:
    """Open a file of cells; of an AnnData and a 10x .h5 only the asked part is ever in memory.

    Parameters
    ----------
    columns
        See `query_in_memory`.
    workspace
        A folder for the matrix in another order, if it is stored gene by gene (CSC). It is the
        caller's to remove.
    name
        What to call the file in errors.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_cells` and `query_in_memory`.
    """
    needed = list(dict.fromkeys([*reading.columns, *columns]))
    if is_10x_h5(path):
        with open_10x_h5(path) as (parts, obs, genes):
            chosen = choose_matrix([Candidate("X", genes, lambda: parts)], reading, name)
            _check(obs.index, [], needed, name)
            require_unique("gene names", chosen.genes.index, UNIQUE_GENES, f"X of {name}")
            yield QueryCells(name, reading, chosen, obs)
        return
    if not can_be_streamed(path):
        yield query_in_memory(read_whole(path), reading, name, columns)
        return
    with open_matrix(path, reading, name, workspace) as (file, chosen):
        obs = read_columns(file, [], name)
        columns_there = column_names(file, name)
        _check(obs.index, columns_there, needed, name)
        obs = read_columns(file, _with_totals(needed, columns_there), name)
        yield QueryCells(name, reading, chosen, obs)


def _with_totals(needed: list[str], columns: list[str]) -> list[str]:
    """Add the columns that may hold all counts of each cell; not those of which there are two."""
    once = [key for key in TOTAL_COLUMNS if columns.count(key) == 1]
    return [*needed, *(key for key in once if key not in needed)]


def read_whole(path: Path) -> ad.AnnData:
    """Read a file that cannot be read in parts, and warn if it is large; see `read_cells`."""
    if path.exists():
        _say_that_it_is_whole(path)
    return read_cells(path)


def in_memory(cells: ad.AnnData | str | Path, name: str) -> tuple[ad.AnnData, str]:
    """Return cells, read if they are a path, and what to call them in errors."""
    if isinstance(cells, str | Path):
        return read_cells(Path(cells)), str(cells)
    return cells, name


def _say_that_it_is_whole(path: Path) -> None:
    files = path.iterdir() if path.is_dir() else [path]
    gb = sum(file.stat().st_size for file in files) / 1e9
    log.info(
        "%s (%.2f GB) is not an AnnData of version 0.8 or newer, nor a 10x .h5: read whole",
        path,
        gb,
    )
    if gb > LARGE_GB:
        log.warning(
            "%s has %.1f GB and is read as a whole, which may take ten times as much memory. If "
            "that is too much, give the .h5 file that Cell Ranger writes beside the folder, or "
            "write it as .h5ad with anndata 0.8 or newer: these are read a part at a time.",
            *(path, gb),
        )


def _check(cells: pd.Index, columns: list[str], needed: list[str], name: str) -> None:
    for column in columns:
        if str(column).startswith("scbert_") and "/" in column:  # in memory also a number
            raise ValueError(
                f"{name} has the column obs['{column}'], which an .h5ad cannot hold beside the "
                f"column '{column.split('/', maxsplit=1)[0]}' that may be added. Rename it: "
                f"adata.obs = adata.obs.rename(columns={{'{column}': 'NEW'}})."
            )
    if not len(cells):
        raise ValueError(f"{name} has no cells, so there is nothing to annotate. Give other cells.")
    for column in needed:
        require_known(column, columns, name)
        if (n := columns.count(column)) > 1:
            raise ValueError(
                f"{name} has {n} columns obs['{column}'], so which is meant is not known. Keep one "
                "of each name: adata.obs = adata.obs.loc[:, ~adata.obs.columns.duplicated()]."
            )
    require_unique("cell ids", cells, UNIQUE_CELLS, name)
