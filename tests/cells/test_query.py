"""Files read in parts: the same calls as in memory, and nothing in the file is changed."""

import os

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbert.cells import matrix as matrix_module
from scbert.cells import result as result_module
from scbert.cells.h5ad import can_be_streamed
from scbert.cells.how_to_read import HowToRead
from scbert.cells.matrix import Parts, parts_in_memory, turn
from scbert.steps.annotate_file import annotate, annotate_file
from scbert.training import answers as step

WAYS = ["csr", "csc", "dense", "dense gzip", "layers/counts", "layers csc", "raw.X", "log1p"]


@pytest.fixture
def cells(toy):
    """45 cells with something in every place of an AnnData."""
    cells = toy.draw_cells(45, seed=5)
    cells.obs["leiden"] = pd.Categorical(list("zyx") * 15, categories=["z", "x", "y", "never"])
    cells.obs["depth"] = np.linspace(0, 1, 45)
    cells.obs["scbert_label"] = "of an earlier run"
    cells.obs["scbert_majority_voting"] = "of an earlier run"
    cells.obsm["X_pca"] = np.random.default_rng(0).normal(size=(45, 3))
    cells.obsp["distances"] = sparse.random(45, 45, 0.1, "csr", random_state=0)
    cells.uns["note"] = {"nested": np.arange(3), "word": "kept"}
    return cells


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Let a part be 7 of the 45 cells, and a matrix be turned in pieces of 90 values."""
    monkeypatch.setattr(matrix_module, "CELLS_AT_ONCE", 7)
    monkeypatch.setattr(matrix_module, "VALUES_TO_TURN", 90)


def stored(cells, way):
    """Return the same counts at another place or in another form."""
    counts, other = cells.X, cells.copy()
    if way in ("csc", "dense", "dense gzip"):
        other.X = counts.tocsc() if way == "csc" else counts.toarray()
    elif way.startswith("layers"):
        other.layers["counts"] = counts.tocsc() if way == "layers csc" else counts
        other.X = np.full(cells.shape, -1.5, dtype=np.float32)
    elif way == "raw.X":
        other.raw = cells
        other = other[:, :9].copy()
        other.X = np.full(other.shape, -1.5, dtype=np.float32)
    elif way == "log1p":
        sums = np.asarray(counts.sum(axis=1))
        other.X = sparse.csr_matrix(np.log1p(counts.toarray() / sums * 1e4).astype(np.float32))
    return other


def everything(path):
    """Return every array of a file, byte by byte, and every attribute."""
    found = {}

    def visit(name, element):
        for key, value in element.attrs.items():
            found[f"{name}@{key}"] = str(value)
        if isinstance(element, h5py.Dataset):
            values = element[()]
            raw = values.tobytes() if element.dtype.kind != "O" else repr(np.ravel(values).tolist())
            found[name] = (element.dtype, element.shape, element.compression, raw)

    with h5py.File(path) as file:
        visit("", file)
        file.visititems(visit)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_annotate_file_in_parts_is_annotate_in_memory(
    cells, model, toy_run, tmp_path, monkeypatch, way
):
    query = stored(cells, way)
    query.write_h5ad(tmp_path / "q.h5ad", compression="gzip" if "gzip" in way else None)
    assert can_be_streamed(tmp_path / "q.h5ad")
    returned = annotate_file(
        tmp_path / "q.h5ad", toy_run.model, tmp_path / "out.h5ad", cluster_key="leiden"
    )
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    monkeypatch.setattr(matrix_module, "CELLS_AT_ONCE", 8192)
    expected = annotate(query, model, cluster_key="leiden")
    assert list(found.obs.columns) == list(expected.obs.columns)
    pd.testing.assert_frame_equal(found.obs, expected.obs, rtol=1e-5, check_categorical=True)
    for key in ("X_scbert", "scbert_probabilities"):
        assert np.abs(np.asarray(found.obsm[key]) - np.asarray(expected.obsm[key])).max() < 1e-5
        assert found.obsm[key].dtype == np.float32 if key == "X_scbert" else True
    assert list(found.uns["scbert"].pop("labels")) == expected.uns["scbert"].pop("labels")
    assert found.uns["scbert"] == expected.uns["scbert"]
    assert returned.X is None
    assert list(returned.obs.scbert_label) == list(found.obs.scbert_label)
    assert sorted(os.listdir(tmp_path)) == ["out.h5ad", "q.h5ad"]  # noqa: PTH208  the names


@pytest.mark.parametrize("way", ["csr", "csc", "raw.X"])
def test_what_was_in_the_file_is_still_there_byte_by_byte(cells, toy_run, tmp_path, way):
    path, out = tmp_path / "q.h5ad", tmp_path / "out.h5ad"
    stored(cells, way).write_h5ad(path)
    whole = path.read_bytes()
    annotate_file(path, toy_run.model, out)
    assert path.read_bytes() == whole
    before, after = everything(path), everything(out)
    ours = ("obs/scbert_", "obsm/X_scbert", "obsm/scbert_", "uns/scbert")
    kept = {key: value for key, value in before.items() if not key.startswith(ours)}
    order = [str(column) for column in after_order(out)]
    assert order[:3] == ["cell_type", "leiden", "depth"]
    assert "scbert_majority_voting" not in order  # it was another model's
    kept.pop("obs@column-order")
    assert {key: after[key] for key in kept} == kept
    assert all(key in kept or key.startswith((*ours, "obs@column-order")) for key in after)


def after_order(path):
    with h5py.File(path) as file:
        return list(file["obs"].attrs["column-order"])


def test_a_result_can_replace_its_query(cells, toy_run, tmp_path):
    path = tmp_path / "q.h5ad"
    cells.write_h5ad(path)
    annotate_file(path, toy_run.model, path)
    once = ad.read_h5ad(path)
    annotate_file(path, toy_run.model, path)
    again = ad.read_h5ad(path)
    pd.testing.assert_frame_equal(again.obs, once.obs)
    assert (again.X != cells.X).nnz == 0


@pytest.mark.parametrize("when", ["network", "adding"])
def test_an_interrupted_annotation_leaves_nothing(cells, toy_run, tmp_path, monkeypatch, when):
    """Ctrl-C in the third part, and while the result is written, over a result of before."""
    stored(cells, "csc").write_h5ad(tmp_path / "q.h5ad")
    ad.AnnData(uns={"scbert": {"model_sha256": "0"}}).write_h5ad(tmp_path / "out.h5ad")
    before = (tmp_path / "out.h5ad").read_bytes()
    module, name = {"network": (step, "ask"), "adding": (result_module, "add")}[when]
    original, calls = getattr(module, name), []

    def stop(*given, **named):
        calls.append(1)
        if when == "adding" or len(calls) == 3:
            raise KeyboardInterrupt
        return original(*given, **named)

    monkeypatch.setattr(module, name, stop)
    with pytest.raises(KeyboardInterrupt):
        annotate_file(tmp_path / "q.h5ad", toy_run.model, tmp_path / "out.h5ad")
    assert (tmp_path / "out.h5ad").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5ad", "q.h5ad"]


def damage(path, how):
    with h5py.File(path, "r+") as file:
        if how == "nan in the last cell":
            file["X/data"][-1] = np.nan
        elif how == "gene beyond the table":
            file["X/indices"][-1] = 80
        elif how == "indptr descends":
            file["X/indptr"][5] = 3
        elif how == "short indptr":
            values = file["X/indptr"][:-1]
            del file["X/indptr"]
            file["X/indptr"] = values
        elif how == "cells repeat":
            file["obs/_index"][1] = file["obs/_index"][0]
        elif how == "external storage":
            n = len(file["obs/depth"])
            del file["obs/depth"]
            where = [(path.with_name("secret"), 0, 8 * n)]
            file["obs"].create_dataset("depth", (n,), np.float64, external=where)
        elif how == "another file":
            with h5py.File(path.with_name("other.h5ad"), "w") as other:
                other.create_group("obsm")
            del file["obsm"]
            file["obsm"] = h5py.ExternalLink("other.h5ad", "obsm")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan in the last cell", "X of .*q.h5ad holds 1 values that are NaN"),
        ("gene beyond the table", "X of .*q.h5ad is a damaged matrix"),
        ("indptr descends", "X of .*q.h5ad is a damaged matrix.*ascend"),
        ("short indptr", "X of .*q.h5ad is a damaged matrix.*46 numbers"),
        ("cells repeat", r"1 cell ids that occur more than once \(cell0\)"),
        ("external storage", "'obs/depth' of .*q.h5ad is a link into another file"),
        ("another file", "'obsm' of .*q.h5ad is a link into another file"),
    ],
)
def test_a_damaged_file_is_refused_before_the_network_runs(
    cells, toy_run, tmp_path, monkeypatch, how, message
):
    path = tmp_path / "q.h5ad"
    cells.write_h5ad(path)
    damage(path, how)
    monkeypatch.setattr(step, "ask", lambda *_, **__: pytest.fail("the experts ran"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=f"(?s){message}"):
        annotate_file(path, toy_run.model, tmp_path / "out.h5ad")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("target", ["/uns", "/elsewhere"])
def test_a_link_that_leads_nowhere_or_to_itself_is_refused(cells, toy_run, tmp_path, target):
    cells.write_h5ad(tmp_path / "q.h5ad")
    with h5py.File(tmp_path / "q.h5ad", "r+") as file:
        del file["uns"]
        file["uns"] = h5py.SoftLink(target)
    with pytest.raises(ValueError, match=r"'uns' of .*q\.h5ad is a link that leads nowhere"):
        annotate_file(tmp_path / "q.h5ad", toy_run.model, tmp_path / "out.h5ad")


def test_a_file_without_a_list_of_its_columns_is_refused(cells, toy_run, tmp_path):
    cells.write_h5ad(tmp_path / "q.h5ad")
    with h5py.File(tmp_path / "q.h5ad", "r+") as file:
        del file["obs"].attrs["column-order"]
    with pytest.raises(ValueError, match=r"obs of .*q\.h5ad has no list of its columns"):
        annotate_file(tmp_path / "q.h5ad", toy_run.model, tmp_path / "out.h5ad")


def test_an_error_in_a_later_part_says_in_which(cells, toy_run, tmp_path):
    cells.obs["depth"] = np.asarray(cells.X.sum(axis=1)).ravel()
    cells.obs.iloc[30, cells.obs.columns.get_loc("depth")] = 1.0
    cells.write_h5ad(tmp_path / "q.h5ad")
    with pytest.raises(ValueError, match=r"cells 28 to 34 of .*: cell 2 has .* a library of 1\."):
        annotate_file(
            tmp_path / "q.h5ad",
            toy_run.model,
            tmp_path / "out.h5ad",
            reading=HowToRead(library_size_key="depth"),
        )


def test_annotate_refuses_a_backed_anndata(cells, model, tmp_path):
    cells.write_h5ad(tmp_path / "q.h5ad")
    backed = ad.read_h5ad(tmp_path / "q.h5ad", backed="r")
    with pytest.raises(ValueError, match=r"still in .*q\.h5ad.*to_memory"):
        annotate(backed, model)
    backed.file.close()


@pytest.mark.parametrize("at_once", [1, 3, 4096])
def test_turn_of_a_matrix_that_a_person_can_check(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(matrix_module, "VALUES_TO_TURN", at_once)
    matrix = sparse.csc_matrix(np.array([[1, 0, 2], [0, 0, 0], [3, 4, 0], [0, 0, 5]], np.float32))
    with h5py.File(tmp_path / "t.h5", "w") as to:
        data, genes, ends = turn(matrix.data, matrix.indices, matrix.indptr, 4, to)
        assert data[:].tolist() == [1, 2, 3, 4, 5]
        assert genes[:].tolist() == [0, 2, 0, 1, 2]
        assert ends.tolist() == [0, 2, 2, 4, 5]


def test_turn_is_what_scipy_does(tmp_path, monkeypatch):
    """Among the cells are empty ones, and one with more values than a piece."""
    monkeypatch.setattr(matrix_module, "VALUES_TO_TURN", 50)
    matrix = sparse.random(200, 70, 0.05, "lil", random_state=0, dtype=np.float32)
    matrix[17] = 1
    expected = matrix.tocsr()
    given = expected.tocsc()
    with h5py.File(tmp_path / "t.h5", "w") as to:
        data, genes, ends = turn(given.data, given.indices, given.indptr, 200, to)
        assert (data[:] == expected.data).all()
        assert (genes[:] == expected.indices).all()
        assert (ends == expected.indptr).all()


def test_turn_refuses_a_cell_that_does_not_exist(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as to, pytest.raises(ValueError, match="cell 0 or 4 of"):
        turn(np.ones(2), np.array([0, 4]), np.array([0, 2]), 4, to)


def test_parts_are_the_matrix(monkeypatch):
    monkeypatch.setattr(matrix_module, "VALUES_AT_ONCE", 21)
    matrix = sparse.random(10, 7, 0.4, "csr", random_state=0)
    for values in (matrix, matrix.tocsc(), matrix.toarray()):
        found = list(parts_in_memory(values, "X").each())
        assert [start for start, _ in found] == [0, 3, 6, 9]
        assert (sparse.vstack([part for _, part in found]) != matrix).nnz == 0


def test_parts_are_copies():
    values = np.ones((2, 2))
    Parts("X", (2, 2), values).read(0, 2).data[:] = 5
    assert values.max() == 1
