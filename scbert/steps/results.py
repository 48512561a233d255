"""What was found about cells, beside what was in their file or AnnData: nothing of that changes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import anndata as ad

from scbert.cells.counts import write_cells
from scbert.cells.h5ad import add, can_be_streamed, write_in_parts
from scbert.cells.query import Query, open_query, query_in_memory, read_whole
from scbert.cells.tenx_h5 import is_10x_h5
from scbert.files import publish


def write_result(
    query: Path,
    out: Path,
    matrix: str,
    columns: list[str],
    make: Callable[[Query], ad.AnnData],
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
