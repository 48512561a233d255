"""Results for cells, written beside all that is in their file."""

import logging
import shutil
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import h5py

from scbert.cells.h5ad import (
    EMBEDDING,
    MADE_BY,
    RESULTS,
    add,
    can_be_streamed,
    refuse_foreign,
    require_readable,
    unreadable,
    write_in_parts,
)
from scbert.cells.hdf5 import refuse_links, refuse_slashes, require_filters
from scbert.cells.how_to_read import HowToRead
from scbert.cells.plain_text import make_file_plain, make_plain
from scbert.cells.query import QueryCells, open_query, query_in_memory, read_whole
from scbert.cells.stores import copy_anndata
from scbert.cells.tenx import is_10x_h5
from scbert.files import publish, refuse_folder, require_room

log = logging.getLogger(__name__)


def write_result(
    query: Path,
    out: Path,
    reading: HowToRead,
    make: Callable[[QueryCells], ad.AnnData],
    *,
    columns: Sequence[str] = (),
    stale: Sequence[str] = (),
) -> ad.AnnData:
    """Write what `make` finds beside what is in a file of cells; return only the new.

    Parameters
    ----------
    columns
        Of obs, that `make` needs beside those of `reading`.
    stale
        Columns of obs to leave out, of an earlier result.

    Raises
    ------
    ValueError
        If `out` is a folder, or a file that is neither a result nor `query` itself: these are not
        replaced. A result holds all that its query has.
    """
    refuse_folder(out)  # before the computing, which may take hours
    refuse_foreign(out, query)
    if not (can_be_streamed(query) or is_10x_h5(query)):
        cells = read_whole(query)
        new = make(query_in_memory(cells, reading, str(query), columns))
        _write_whole(query, out, cells, new, stale=stale)
        return new
    with publish(out) as copy:
        require_room(out, query.stat().st_size if query.is_file() else 0)
        # first: what is annotated is what stands in the result
        _copy(query, copy, reading, columns)
        unread = unreadable(copy)
        if unread:
            log.warning("anndata cannot read all of %s: %s", query, unread)
        with open_query(copy, reading, copy.parent, str(query), columns) as opened:
            new = make(opened)
        add(copy, new, list(stale))
        with h5py.File(copy, "r+") as file:
            _forget_old_vectors(file["uns"], new.uns)
        if not unread:
            require_readable(copy, out)
    return new


def _write_whole(
    query: Path, out: Path, cells: ad.AnnData, new: ad.AnnData, *, stale: Sequence[str]
) -> None:
    with publish(out) as copy:
        try:
            joined(cells, new, stale).write_h5ad(copy)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{query} holds what anndata reads, but cannot write again ({error}). Write or "
                "download it again."
            ) from error
        require_readable(copy, out)


def _copy(query: Path, copy: Path, reading: HowToRead, columns: Sequence[str]) -> None:
    if is_10x_h5(query):
        with open_query(query, reading, copy.parent, str(query), columns) as opened:
            write_in_parts(copy, opened.parts, opened.obs, opened.genes)
        return
    if query.is_dir() or query.suffix == ".h5mu":
        copy_anndata(query, copy, str(query))
    else:
        shutil.copyfile(query, copy)
    with h5py.File(copy, "r+") as file:
        refuse_links(file, str(query))  # what is written must not go through one
        _require_groups(file, str(query))
        refuse_slashes(file, str(query))
        require_filters(file, str(query))
        make_file_plain(file, str(query))


def _require_groups(file: h5py.File, name: str) -> None:
    """Refuse a file to which nothing can be added."""
    for place in ("obs", "obsm", "uns"):
        if place in file and not isinstance(file[place], h5py.Group):
            raise ValueError(
                f"'{place}' of {name} is not a group of entries, so the file is damaged. Write or "
                "download it again."
            )


def joined(adata: ad.AnnData, found: ad.AnnData, stale: Sequence[str]) -> ad.AnnData:
    """Return a copy with what was found, without the stale columns of an earlier result."""
    result = adata.copy()
    make_plain(result)
    result.obs = result.obs.drop(columns=list(stale), errors="ignore")
    for column, values in found.obs.items():
        result.obs[column] = values.array
    for key, values in found.obsm.items():
        result.obsm[key] = values
    result.uns.update(found.uns)
    _forget_old_vectors(result.uns, found.uns)
    return result


def _forget_old_vectors(uns: MutableMapping[str, Any], new: Mapping[str, Any]) -> None:
    """Remove from uns what an earlier result says of its X_scbert, which a new one has replaced.

    Parameters
    ----------
    new
        The entries of the new result, which stay.
    """
    for key in RESULTS:
        entry = uns.get(key)
        if key in new or not isinstance(entry, MutableMapping) or MADE_BY not in entry:
            continue  # of the new result, or not written by scbert
        if key == EMBEDDING:
            del uns[key]
        else:
            entry.pop("vectors", None)
