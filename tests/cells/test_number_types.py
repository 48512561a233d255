"""Matrices of every type of number, and compressions that are not installed."""

import sys
from types import SimpleNamespace

import anndata as ad
import h5py
import numpy as np
import pytest
from anndata.io import read_elem
from scipy import sparse

from scbert.cells import hdf5
from scbert.cells.how_to_read import HowToRead
from scbert.cells.matrix import parts_in_memory
from scbert.cells.query import open_query
from scbert.cells.read import read_cells
from scbert.steps.annotate_file import annotate, annotate_file
from tests.cells.test_tenx_h5 import write_10x

TYPES = ["?", "u1", "i1", "u2", ">i2", "u4", ">i4", "i8", ">u8", "f2", ">f2", ">f4", "f8", ">f8"]
FORMS = ["csr", "csc", "dense"]
ZSTANDARD = 32015


@pytest.fixture
def cells(toy):
    return toy.draw_cells(45, seed=5)


def write_as(path, cells, kind, form):
    """Write cells whose numbers are of a type that anndata may not write."""
    other = cells.copy()
    other.X = cells.X.toarray() if form == "dense" else cells.X.asformat(form)
    other.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        place = "X" if form == "dense" else "X/data"
        values, attributes = file[place][()].astype(kind), dict(file[place].attrs)
        del file[place]
        file[place] = values
        file[place].attrs.update(attributes)
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", TYPES)
def test_numbers_of_every_type_are_read(cells, tmp_path, kind, form):
    path = write_as(tmp_path / "q.h5ad", cells, kind, form)
    with open_query(path, HowToRead(), tmp_path, "q") as query:
        found = query.parts.read(0, 45)
    assert np.array_equal(found.toarray(), cells.X.toarray().astype(kind).astype("f8"))
    assert found.dtype.isnative


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["u1", ">i4", "f2"])
def test_every_type_gives_the_same_calls(cells, toy_run, tmp_path, kind, form):
    path = write_as(tmp_path / "q.h5ad", cells, kind, form)
    found = annotate_file(path, toy_run.model, tmp_path / "out.h5ad")
    assert list(found.obs.scbert_label) == list(annotate(cells, toy_run.model).obs.scbert_label)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float16, ">f4"])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_parts_in_memory_are_read_from_every_type(kind, form):
    if kind in (np.float16, ">f4") and form is not np.asarray:
        pytest.skip("scipy has none of this type")
    values = np.array([[0, 1], [1, 0], [1, 1]]).astype(kind)
    assert parts_in_memory(form(values), "q").read(1, 3).toarray().tolist() == [[1, 0], [1, 1]]


def test_small_integers_that_are_stored_twice_do_not_overflow():
    twice = sparse.csr_matrix((np.array([200, 100], dtype="u1"), [0, 0], [0, 2]), shape=(1, 1))
    assert parts_in_memory(twice, "q").read(0, 1).toarray().tolist() == [[300]]


@pytest.mark.parametrize("values", [np.array([["1"]]), np.array([[1j]]), np.array([[None]])])
def test_what_is_no_number_is_refused(values):
    with pytest.raises(ValueError, match=r"q is a damaged matrix .*numbers are needed"):
        parts_in_memory(values, "q").read(0, 1)


def compress(path, place):
    """Say that a dataset is compressed with Zstandard, as hdf5plugin does."""
    with h5py.File(path, "r+") as file:
        group, name = file[place].parent, place.split("/")[-1]
        attributes = dict(file[place].attrs)
        shape, kind = file[place].shape, file[place].dtype
        del file[place]
        made = group.create_dataset(
            *(name, shape, kind),
            chunks=shape,
            compression=ZSTANDARD,
            compression_opts=(3,),
            allow_unknown_filter=True,
        )
        made.id.write_direct_chunk((0,) * len(shape), b"zstandard")
        made.attrs.update(attributes)


MISSING = (
    r"'{place}' of .*q.h5(ad)? is compressed with the HDF5 filter Zstandard \(32015\), which is "
)
MISSING += "not installed. Do: pip install hdf5plugin, or write the file again with compression"


@pytest.fixture
def without_plugin(monkeypatch):
    monkeypatch.setattr(hdf5.importlib.util, "find_spec", lambda _: None)


@pytest.mark.usefixtures("without_plugin")
@pytest.mark.parametrize("place", ["X/data", "obs/cell_type/codes"])
def test_a_missing_filter_is_named(cells, toy_run, tmp_path, place):
    cells.write_h5ad(tmp_path / "q.h5ad")
    compress(tmp_path / "q.h5ad", place)
    message = MISSING.format(place=place)
    with pytest.raises(ValueError, match=message):
        annotate_file(tmp_path / "q.h5ad", toy_run.model, tmp_path / "out.h5ad")
    with pytest.raises(ValueError, match=message):
        read_cells(tmp_path / "q.h5ad")


@pytest.mark.usefixtures("without_plugin")
def test_a_missing_filter_of_10x_is_named(cells, tmp_path):
    write_10x(tmp_path / "q.h5", cells)
    compress(tmp_path / "q.h5", "matrix/data")
    with pytest.raises(ValueError, match="^" + MISSING.format(place="matrix/data")):
        read_cells(tmp_path / "q.h5")


def test_hdf5plugin_is_used_where_it_is(cells, tmp_path, monkeypatch):
    cells.write_h5ad(tmp_path / "q.h5ad")
    compress(tmp_path / "q.h5ad", "obs/cell_type/codes")
    missing = iter([True, False])  # before, and after its import

    def look(file):
        return ("obs", ZSTANDARD, "") if next(missing) else None

    monkeypatch.setattr(hdf5, "_missing_filter", look)
    monkeypatch.setattr(hdf5.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "hdf5plugin", SimpleNamespace())
    with h5py.File(tmp_path / "q.h5ad") as file:
        hdf5.require_filters(file, "q")
        assert isinstance(read_elem(file["X"]), sparse.csr_matrix)


def test_filters_that_hdf5_has_are_no_reason_to_refuse(cells, tmp_path):
    cells.write_h5ad(tmp_path / "q.h5ad", compression="lzf")
    assert isinstance(read_cells(tmp_path / "q.h5ad"), ad.AnnData)
