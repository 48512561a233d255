"""Formats that hold an AnnData on disk: .h5ad, .h5, .h5mu (its modality rna), folders of zarr.

A folder of zarr is checked before anything of it is read: the metadata of each array name the
codecs that undo its compression. One of them, pickle, runs what the file says; a link would let a
folder reach other files.
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import zarr
from anndata.io import read_elem, write_elem

from scbert.cells.hdf5 import (
    LARGE,
    refuse_links,
    refuse_slashes,
    require_filters,
    require_plausible,
    require_stored,
)

log = logging.getLogger(__name__)
HDF5 = (".h5ad", ".h5", ".h5mu")
MODALITY = "rna"
OF_MATRICES = ("anndata", "raw", "dict", "csr_matrix", "csc_matrix")  # groups, copied in parts
VALUES_AT_ONCE = 2**24
METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
MOST_METADATA = 2**26  # bytes of one file
BYTES_OF_CHUNK = 2**12  # that one costs as much time as, even where it is not there
NUMBERS = ("bytes", "delta", "endian", "packbits", "sharding_indexed", "transpose")
TEXT = ("vlen-bytes", "vlen-utf8")
PACKED = ("bitshuffle", "blosc", "bz2", "gzip", "lz4", "lzma", "shuffle", "zlib", "zstd")
CHECKED = ("adler32", "crc32", "crc32c", "fletcher32")
CODECS = frozenset((*NUMBERS, *TEXT, *PACKED, *CHECKED))  # none runs what a file says


@contextmanager
def open_anndata(path: Path, name: str) -> Iterator[Any]:
    """Open the group of HDF5 or zarr that holds the AnnData; say which modality it is.

    Raises
    ------
    ValueError
        If there is no modality rna, a compression cannot be undone, or the file reaches others.
    """
    if is_zarr(path):
        store = open_zarr(path, name)
        _say_modality(store, name)
        found = anndata_of(store, name)
        refuse_slashes(found, name)
        yield found
        return
    with h5py.File(path) as file:
        refuse_links(file, name)
        require_filters(file, name)
        require_stored(file, name)
        _say_modality(file, name)
        found = anndata_of(file, name)
        refuse_slashes(found, name)
        yield found


def anndata_of(store: Any, name: str) -> Any:
    """Return the group itself, or of a MuData that of its modality rna."""
    if not _is_mudata(store):
        return store
    if MODALITY not in store["mod"]:
        there = list(store["mod"])
        raise ValueError(
            f"{name} has the modalities {', '.join(there) or '(none)'}, but cells are read from "
            f"'{MODALITY}'. Write the one with gene expression alone: python -c \"import mudata; "
            f"mudata.read('{name}')['{there[0] if there else MODALITY}'].write_h5ad('rna.h5ad')\""
        )
    return store["mod"][MODALITY]


def _is_mudata(store: Any) -> bool:
    return store.attrs.get("encoding-type") == "MuData" and "mod" in store


def _say_modality(store: Any, name: str) -> None:
    if _is_mudata(store):
        others = [key for key in store["mod"] if key != MODALITY]
        left = f"; left out are {', '.join(others)}" if others else ""
        log.info("%s: the modality '%s' is read%s", name, MODALITY, left)


def copy_anndata(path: Path, to: Path, name: str) -> None:
    """Write the AnnData of .h5mu or zarr as .h5ad; of its matrices only a part is in memory.

    Raises
    ------
    ValueError
        As `open_anndata`, or if something in it is damaged.
    """
    with open_anndata(path, name) as store, h5py.File(to, "w") as file:
        try:
            if isinstance(store, h5py.Group):
                for key in store:
                    store.copy(key, file)
                file.attrs.update(store.attrs)
            else:
                _copy_group(store, file)
        except Exception as error:  # anndata, HDF5 and zarr raise any
            raise ValueError(f"{name} is damaged ({error}). Write or download it again.") from error


def _copy_group(source: Any, to: h5py.Group) -> None:
    for key, value in source.attrs.items():
        to.attrs[key] = value
    if source.attrs.get("encoding-type") in ("csr_matrix", "csc_matrix"):
        require_all_chunks(source["data"])
        require_all_chunks(source["indices"])  # else all counts would be of the first gene
    for key in source:
        found = source[key]
        if hasattr(found, "dtype") and found.ndim and found.dtype.kind in "biuf":
            _copy_array(found, to, key)
        elif found.attrs.get("encoding-type") in OF_MATRICES:
            _copy_group(found, to.create_group(key))
        else:
            with ad.settings.override(allow_write_nullable_strings=True):  # made plain afterwards
                write_elem(to, key, read_elem(found))


def _copy_array(source: Any, to: h5py.Group, key: str) -> None:
    made = to.create_dataset(key, source.shape, source.dtype)
    for name, value in source.attrs.items():
        made.attrs[name] = value
    at_once = max(1, VALUES_AT_ONCE // max(1, int(np.prod(source.shape[1:]))))
    for start in range(0, source.shape[0], at_once):
        made[start : start + at_once] = source[start : start + at_once]


def is_zarr(path: Path) -> bool:
    """Whether it is a folder of zarr, of version 2 or 3."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup"))


def open_zarr(path: Path, name: str) -> Any:
    """Open a folder of zarr for reading; return its group.

    Raises
    ------
    ValueError
        If it holds a link, is packed with a codec that is not known to be harmless, is damaged, or
        declares far more than it holds.
    """
    for file in _files(path, name):
        if file.name in METADATA:
            _require_known_codecs(file, f"'{file.parent.relative_to(path)}' of {name}")
    try:
        # the summary of all metadata at the root may say something else than what was looked at
        group = zarr.open_group(path, mode="r", use_consolidated=False)
        large = [(place, one) for place, one in group.members(max_depth=None) if _is_large(one)]
    except Exception as error:  # zarr raises any
        raise ValueError(
            f"{name} cannot be read as zarr ({error}). Write or copy it again."
        ) from error
    for place, one in large:
        require_plausible(place, _cost(one), one.nbytes_stored(), name)
    return group


def require_all_chunks(array: Any) -> None:
    """Refuse an array of which a part is missing: zarr would take it for zeros.

    Raises
    ------
    ValueError
        With the number of missing chunks.
    """
    missing = array.nchunks - array.nchunks_initialized
    if missing:
        raise ValueError(
            f"{missing:,} of the {array.nchunks:,} chunks of '{array.path}' are missing"
        )


def _is_large(found: Any) -> bool:
    return isinstance(found, zarr.Array) and _cost(found) >= LARGE


def _cost(array: zarr.Array) -> int:
    """Return how many bytes an array declares; a chunk costs time even where it is not there."""
    return max(array.nbytes, array.nchunks * BYTES_OF_CHUNK)


def _files(folder: Path, name: str) -> Iterator[Path]:
    """Yield all files; refuse links and what is neither a file nor a folder."""
    for place, folders, files in os.walk(folder):
        for found in (Path(place, entry) for entry in (*folders, *files)):
            if found.is_symlink() or not (found.is_file() or found.is_dir()):
                raise ValueError(
                    f"'{found.relative_to(folder)}' of {name} is a link. Links are not followed, "
                    "for safety: copy it with cp -rL."
                )
        yield from (Path(place, entry) for entry in files)


def _require_known_codecs(file: Path, name: str) -> None:
    try:
        size = file.stat().st_size
        if size > MOST_METADATA:
            raise ValueError(f"{size:,} bytes")
        content = json.loads(file.read_bytes())
        codecs = list(_codecs(content)) if isinstance(content, dict) else []
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file.name} of {name} is damaged ({error}). Write or copy it again."
        ) from error
    unknown = [codec for codec in codecs if codec.removeprefix("numcodecs.") not in CODECS]
    if unknown:
        raise ValueError(
            f"{name} is packed with '{unknown[0]}', which is not among the codecs that are read "
            f"({', '.join(sorted(CODECS))}): pickle and the like can run code. Write it again with "
            "anndata's write_zarr."
        )


def _codecs(metadata: dict[str, Any]) -> Iterator[str]:
    """Yield the names of all codecs in the metadata of an array; a shard has codecs of its own."""
    given = [metadata.get("compressor")]
    for key in ("filters", "codecs", "index_codecs", "storage_transformers"):
        found = metadata.get(key) or []
        if not isinstance(found, list):
            raise ValueError(f"'{key}' is no list")
        given += found
    for codec in given:
        if codec is None:
            continue
        if not isinstance(codec, dict):
            yield str(codec)
            continue
        yield str(codec.get("id", codec.get("name")))
        yield from _codecs(codec.get("configuration") or {})
