"""Cells to be annotated, whose matrix is read a part at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import pandas as pd

from scbert.cells.counts import (
    UNIQUE_CELLS,
    matrix_parts,
    read_cells,
    require_known,
    require_unique,
)
from scbert.cells.h5ad import can_be_streamed, column_names, open_matrix, read_columns
from scbert.cells.parts import Parts


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
    """Open a file of cells; of .h5ad files only the asked part is ever in memory.

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
    if not can_be_streamed(path):
        yield query_in_memory(read_cells(path), choice, columns, name)
        return
    with open_matrix(path, choice, name, workspace) as (file, parts, genes, found):
        obs = read_columns(file, [], name)
        _check(obs.index, column_names(file), columns, name)
        yield Query(name, found, parts, genes, read_columns(file, columns, name))


def _check(cells: pd.Index, columns: list[str], needed: list[str], name: str) -> None:
    if not len(cells):
        raise ValueError(f"{name} has no cells, so there is nothing to annotate. Give other cells.")
    for column in needed:
        require_known(column, columns, name)
    require_unique("cell ids", cells, UNIQUE_CELLS, name)
