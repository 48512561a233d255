"""Cells to be annotated, read a part at a time, and what was found of them, beside their file."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import pandas as pd

from scbert.cells.h5ad import (
    add,
    can_be_streamed,
    column_names,
    open_matrix,
    read_columns,
    write_in_parts,
)
from scbert.cells.matrix import Parts
from scbert.cells.read import (
    UNIQUE_CELLS,
    UNIQUE_GENES,
    choose_matrix,
    matrix_parts,
    read_cells,
    require_known,
    require_unique,
    write_cells,
)
from scbert.cells.tenx import is_10x_h5, open_10x_h5
from scbert.files import publish

log = logging.getLogger(__name__)
LARGE_GB = 0.5  # of a file: as a whole in memory, text takes ten times as much


@dataclass(frozen=True)
class QueryCells:
    """The cells of a file or an AnnData, as annotation takes them.

    `found` is which matrix of it was chosen, and `genes` the table of its genes. `obs` has the
    columns that were asked for, its index the ids of the cells.
    """

    name: str
    found: str
    parts: Parts
    genes: pd.DataFrame
    obs: pd.DataFrame

    def __len__(self) -> int:
        return self.parts.shape[0]


def query_in_memory(adata: ad.AnnData, choice: str, columns: list[str], name: str) -> QueryCells:
    """Take the cells of an AnnData, without copying their matrix.

    Parameters
    ----------
    choice
        X, raw.X, layers/NAME, or auto: the first that exists of layers/counts, raw.X and X.
    columns
        Of obs, that are needed.

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
    _check(adata.obs_names, list(adata.obs.columns), columns, name)
    parts, genes, found = matrix_parts(adata, choice, name)
    return QueryCells(name, found, parts, genes, adata.obs[columns])


@contextmanager
def open_query(
    path: Path, choice: str, columns: list[str], name: str, workspace: Path
) -> Iterator[QueryCells]:
    """Open a file of cells; of .h5ad and 10x .h5 only the asked part is ever in memory.

    Parameters
    ----------
    choice, columns
        See `query_in_memory`.
    name
        What to call the file in errors.
    workspace
        A folder for the matrix in another order, if it is stored gene by gene (CSC). It is the
        caller's to remove.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_cells` and `query_in_memory`.
    """
    if is_10x_h5(path):
        with open_10x_h5(path) as (parts, obs, genes):
            found = choose_matrix(["X"], choice, name)
            _check(obs.index, [], columns, name)
            require_unique("gene names", genes.index, UNIQUE_GENES, f"{found} of {name}")
            yield QueryCells(name, found, parts, genes, obs)
        return
    if not can_be_streamed(path):
        yield query_in_memory(read_whole(path), choice, columns, name)
        return
    with open_matrix(path, choice, name, workspace) as (file, parts, genes, found):
        obs = read_columns(file, [], name)
        _check(obs.index, column_names(file), columns, name)
        yield QueryCells(name, found, parts, genes, read_columns(file, columns, name))


def read_whole(path: Path) -> ad.AnnData:
    """Read a file that cannot be read in parts, and warn if it is large; see `read_cells`."""
    if path.exists():
        _say_that_it_is_whole(path)
    return read_cells(path)


def _say_that_it_is_whole(path: Path) -> None:
    files = path.iterdir() if path.is_dir() else [path]
    gb = sum(file.stat().st_size for file in files) / 1e9
    log.info(
        "%s (%.2f GB) is not an .h5ad of anndata 0.8 or newer, nor a 10x .h5: read whole", path, gb
    )
    if gb > LARGE_GB:
        log.warning(
            "%s has %.1f GB and is read as a whole, which may take ten times as much memory. If "
            "that is too much, give the .h5 file that Cell Ranger writes beside the folder, or "
            "write it as .h5ad with anndata 0.8 or newer: these are read a part at a time.",
            *(path, gb),
        )


def _check(cells: pd.Index, columns: list[str], needed: list[str], name: str) -> None:
    if not len(cells):
        raise ValueError(f"{name} has no cells, so there is nothing to annotate. Give other cells.")
    for column in needed:
        require_known(column, columns, name)
    require_unique("cell ids", cells, UNIQUE_CELLS, name)


def write_result(
    query: Path,
    out: Path,
    matrix: str,
    columns: list[str],
    make: Callable[[QueryCells], ad.AnnData],
    stale: list[str],
) -> ad.AnnData:
    """Write what `make` finds beside what is in a file of cells; return only the new.

    Parameters
    ----------
    columns
        Of obs, that `make` needs.
    stale
        Columns of obs to leave out, of an earlier result.
    """
    if not (can_be_streamed(query) or is_10x_h5(query)):
        cells = read_whole(query)
        new = make(query_in_memory(cells, matrix, columns, str(query)))
        write_cells(out, joined(cells, new, stale))
        return new
    with publish(out) as copy:
        _copy(query, copy, matrix, columns)  # first: what is annotated is what stands in the result
        with open_query(copy, matrix, columns, str(query), copy.parent) as opened:
            new = make(opened)
        add(copy, new, stale)
    return new


def _copy(query: Path, copy: Path, matrix: str, columns: list[str]) -> None:
    if not is_10x_h5(query):
        shutil.copyfile(query, copy)
        return
    with open_query(query, matrix, columns, str(query), copy.parent) as opened:
        write_in_parts(copy, opened.parts, opened.obs, opened.genes)


def joined(adata: ad.AnnData, found: ad.AnnData, stale: list[str]) -> ad.AnnData:
    """Return a copy with what was found, without the stale columns of an earlier result."""
    result = adata.copy()
    result.obs = result.obs.drop(columns=stale, errors="ignore")
    for column, values in found.obs.items():
        result.obs[column] = values.array
    for key, values in found.obsm.items():
        result.obsm[key] = values
    result.uns.update(found.uns)
    return result
