"""Cells to be annotated, whose matrix is read a part at a time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import pandas as pd

from scbert.cells.counts import (
    UNIQUE_CELLS,
    UNIQUE_GENES,
    choose_matrix,
    matrix_parts,
    read_cells,
    require_known,
    require_unique,
)
from scbert.cells.h5ad import can_be_streamed, column_names, open_matrix, read_columns
from scbert.cells.parts import Parts
from scbert.cells.tenx_h5 import is_10x_h5, open_10x_h5

log = logging.getLogger(__name__)

LARGE_GB = 0.5  # of a file: as a whole in memory, text takes ten times as much


@dataclass(frozen=True)
class Query:
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


def query_in_memory(adata: ad.AnnData, choice: str, columns: list[str], name: str) -> Query:
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
    return Query(name, found, parts, genes, adata.obs[columns])


@contextmanager
def open_query(
    path: Path, choice: str, columns: list[str], name: str, workspace: Path
) -> Iterator[Query]:
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
            yield Query(name, found, parts, genes, obs)
        return
    if not can_be_streamed(path):
        yield query_in_memory(read_whole(path), choice, columns, name)
        return
    with open_matrix(path, choice, name, workspace) as (file, parts, genes, found):
        obs = read_columns(file, [], name)
        _check(obs.index, column_names(file), columns, name)
        yield Query(name, found, parts, genes, read_columns(file, columns, name))


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
