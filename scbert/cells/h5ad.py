"""AnnData on disk read in parts, and .h5ad added to, without ever being in memory as a whole."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem, sparse_dataset, write_elem

from scbert.cells.choose import Candidate, Chosen, choose_matrix
from scbert.cells.hdf5 import read_ends
from scbert.cells.how_to_read import HowToRead
from scbert.cells.matrix import Parts, damaged_matrix, require_two_sides, turn
from scbert.cells.plain_text import plain_table, plain_values
from scbert.cells.read import UNIQUE_GENES, require_unique
from scbert.cells.stores import (
    HDF5,
    anndata_of,
    is_zarr,
    open_anndata,
    open_zarr,
    require_all_chunks,
)
from scbert.files import require_room

log = logging.getLogger(__name__)
OVERHEAD = 2**20  # bytes of names, groups and uns
MADE_BY = "model_sha256"  # which a result names
EMBEDDING = "scbert_embedding"
RESULTS = ("scbert", EMBEDDING)  # in uns of what annotate and embed write


def can_be_streamed(path: Path) -> bool:
    """Whether it is an AnnData as anndata writes it since version 0.8: HDF5 or a folder of zarr.

    Others, also files that are not AnnData at all, are left to `read_cells`.

    Raises
    ------
    ValueError
        If it has modalities, but no rna; or is zarr that is refused, see `open_zarr`.
    """
    if is_zarr(path):
        return _is_new(anndata_of(open_zarr(path, str(path)), str(path)))
    if path.suffix not in HDF5 or not path.is_file():
        return False
    try:
        with h5py.File(path) as file:
            return _is_new(anndata_of(file, str(path)))
    except (OSError, RuntimeError, KeyError):
        return False


def _is_new(store: Any) -> bool:
    frames = [store.get(name) for name in ("obs", "var")]
    return store.attrs.get("encoding-type") == "anndata" and all(
        frame is not None and frame.attrs.get("encoding-version") == "0.2.0" for frame in frames
    )


@contextmanager
def open_matrix(
    path: Path, reading: HowToRead, name: str, workspace: Path
) -> Iterator[tuple[Any, Chosen]]:
    """Open a file and one of its matrices, see `open_query`; its table of genes is read.

    Raises
    ------
    ValueError
        If the matrix does not exist, is damaged, or its genes repeat, or the file takes something
        from another file.
    """
    with open_anndata(path, name) as file, ExitStack() as opened:
        places = {f"layers/{key}": f"layers/{key}" for key in file.get("layers", {})}
        places |= {key: place for key, place in (("raw.X", "raw/X"), ("X", "X")) if place in file}
        n_cells = len(read_columns(file, [], name))

        def candidate(key: str, place: str) -> Candidate:
            what = f"{key} of {name}"
            try:
                genes = plain_table(read_elem(file["raw/var" if key == "raw.X" else "var"]))
            except Exception as error:  # anndata and HDF5 raise any
                raise damaged_matrix(what, error) from error

            @cache  # it may be looked at before it is chosen
            def opened_parts() -> Parts:
                try:
                    parts = _parts(file[place], what, workspace, opened)
                    sides = (n_cells, len(genes))
                    if parts.shape != sides:
                        raise ValueError(
                            f"its shape is {parts.shape}, but obs and var have {sides}"
                        )
                except Exception as error:
                    raise damaged_matrix(what, error) from error
                return parts

            return Candidate(key, genes, opened_parts)

        chosen = choose_matrix([candidate(*item) for item in places.items()], reading, name)
        what = chosen.parts.name
        require_unique("gene names", chosen.genes.index, UNIQUE_GENES, what)
        yield file, chosen


def _parts(element: Any, name: str, workspace: Path, opened: ExitStack) -> Parts:
    """Look at a matrix in a file; one stored gene by gene is written cell by cell first."""
    if hasattr(element, "dtype"):
        return Parts(name, require_two_sides(element.shape), element)
    shape = require_two_sides(tuple(element.attrs["shape"]))
    data, indices, indptr = (element[key] for key in ("data", "indices", "indptr"))
    kind = element.attrs["encoding-type"]
    if kind not in ("csr_matrix", "csc_matrix"):
        raise ValueError(f"its encoding is '{kind}', but csr_matrix, csc_matrix or array is needed")
    if not isinstance(data, h5py.Dataset):
        require_all_chunks(data)
        require_all_chunks(indices)  # else all counts would be of the first gene
    by_cell = kind == "csr_matrix"
    ends = read_ends(indptr, shape[0 if by_cell else 1], data.size, indices.size)
    if by_cell:
        return Parts(name, shape, data, indices, ends)
    gb = data.size * (8 + data.dtype.itemsize) / 1e9
    log.info("%s is stored gene by gene: %.2f GB are written to %s to turn it", name, gb, workspace)
    to = opened.enter_context(h5py.File(workspace / _turned(name), "w"))
    return Parts(name, shape, *turn(data, indices, ends, shape[0], to))


def _turned(name: str) -> str:
    """Name the file of a matrix that is turned; two may be looked at."""
    return f"turned_{name.split(' of ', maxsplit=1)[0].replace('/', '_')}.h5"


def column_names(file: Any, name: str) -> list[str]:
    """Return the names of the columns of obs; `name` is that of the file.

    Raises
    ------
    ValueError
        If obs has no list of them.
    """
    columns = file["obs"].attrs.get("column-order")
    if columns is None:
        raise ValueError(
            f"obs of {name} has no list of its columns ('column-order'), so the file is damaged. "
            "Write or download it again."
        )
    return [str(column) for column in columns]


def read_columns(file: Any, columns: list[str], name: str) -> pd.DataFrame:
    """Return the index of obs and some of its columns."""
    obs = file["obs"]
    try:
        index = pd.Index(plain_values(read_elem(obs[obs.attrs["_index"]])))
        values = {key: plain_values(read_elem(obs[key])) for key in columns}
        return pd.DataFrame(values, index=index)
    except Exception as error:  # anndata and HDF5 raise any
        raise ValueError(
            f"obs of {name} is damaged ({error}). Write or download the file again."
        ) from error


def write_in_parts(path: Path, parts: Parts, obs: pd.DataFrame, var: pd.DataFrame) -> None:
    """Write an .h5ad file with this X, as anndata would, of which only a part is in memory.

    Raises
    ------
    ValueError
        If the matrix is damaged.
    """
    ad.AnnData(obs=obs, var=var).write_h5ad(path)
    most = np.iinfo(np.int32).max
    ends = {"indptr_dtype": np.int32 if parts.data.size < most else np.int64}
    with h5py.File(path, "r+") as file:
        for start, part in parts.each():
            if start == 0:
                write_elem(file, "X", part, dataset_kwargs=ends)
            else:
                sparse_dataset(file["X"]).append(part)


def add(path: Path, new: ad.AnnData, stale: list[str]) -> None:
    """Add columns of obs, arrays of obsm and entries of uns to a file; nothing else is touched.

    Parameters
    ----------
    path
        An .h5ad file with the same cells in the same order.
    stale
        Columns of obs to remove first.
    """
    arrays = [*new.obsm.values(), new.obs]
    needed = sum(8 * len(array) * array.shape[1] for array in arrays)
    require_room(path, OVERHEAD + needed)  # HDF5 ends the process where a disk is full
    with h5py.File(path, "r+") as file:
        obs = file["obs"]
        for column in stale:
            if column in obs:
                del obs[column]
        kept = [
            column for column in column_names(file, str(path)) if column not in (*stale, *new.obs)
        ]
        for column, values in new.obs.items():
            categorical = isinstance(values.dtype, pd.CategoricalDtype)
            write_elem(obs, column, values.array if categorical else values.to_numpy())
        order = np.array([*kept, *new.obs], dtype=object)
        obs.attrs.create("column-order", order, dtype=h5py.string_dtype())
        for place, entries in (("obsm", new.obsm), ("uns", new.uns)):
            if place not in file:
                write_elem(file, place, {})
            for key, values in entries.items():
                write_elem(file[place], key, values)


def unreadable(path: Path) -> str:
    """Say why anndata could not read a file; empty if it can. Of matrices only the sides are read.

    Parameters
    ----------
    path
        An .h5ad file as anndata writes it since version 0.8.
    """
    try:
        with h5py.File(path) as file:
            tables = {name: read_elem(file[name]) for name in ("obs", "var", "uns") if name in file}
            n_cells = len(tables["obs"])
            arrays = {}
            for key, place in file.get("obsm", {}).items():
                table = place.attrs.get("encoding-type") == "dataframe"
                sides = (
                    place.attrs["shape"] if "shape" in place.attrs else getattr(place, "shape", ())
                )
                arrays[key] = read_elem(place) if table else np.empty((*sides[:1], 0))
            ad.AnnData(shape=(n_cells, len(tables["var"])), **tables, obsm=arrays)
    except Exception as error:  # noqa: BLE001  anndata and pandas raise any
        return str(error).splitlines()[0] or type(error).__name__
    return ""


def require_readable(unfinished: Path, out: Path) -> None:
    """Refuse a result that anndata could not read, before it is called `out`.

    Raises
    ------
    ValueError
        Saying why.
    """
    reason = unreadable(unfinished)
    if reason:
        raise ValueError(
            f"the result cannot be read back ({reason}), so {out} was not written. Report this, "
            "with the versions of anndata and pandas; until then call scbert.annotate on the "
            "AnnData in memory."
        )


def refuse_foreign(out: Path, query: Path) -> None:
    """Refuse to replace a file that is no result, and not the query, of which nothing is lost.

    Raises
    ------
    ValueError
        If there is such a file.
    """
    if not out.exists() or not out.stat().st_size:
        return
    if _is_result(out):
        log.info("%s, an earlier result, is replaced by this one", out)
        return
    if query.exists() and out.samefile(query) and query.suffix == ".h5ad":
        return
    raise ValueError(
        f"{out} exists already and was not written by scbert annotate or embed, so it is not "
        "replaced. Give another name, or remove it."
    )


def _is_result(path: Path) -> bool:
    """Whether annotate or embed wrote it."""
    try:
        with h5py.File(path) as file:
            return any(MADE_BY in file.get(f"uns/{key}", {}) for key in RESULTS)
    except (OSError, RuntimeError, TypeError):
        return False
