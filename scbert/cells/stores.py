"""What holds an AnnData on disk: .h5ad, .h5, .h5mu (its modality rna) and folders of zarr."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
from anndata.io import read_elem, write_elem

from scbert.cells.hdf5 import refuse_links, refuse_slashes, require_filters, require_stored
from scbert.cells.zarr_folder import is_zarr, open_zarr, require_all_chunks

log = logging.getLogger(__name__)
HDF5 = (".h5ad", ".h5", ".h5mu")
MODALITY = "rna"
OF_MATRICES = ("anndata", "raw", "dict", "csr_matrix", "csc_matrix")  # groups, copied in parts
VALUES_AT_ONCE = 2**24


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
