"""Text as anndata 0.13 with pandas 3 writes it: StringDtype in every place of an AnnData."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scbert
from scbert.cells.plain_text import make_plain, plain_table
from scbert.steps.annotate_file import annotate_file
from scbert.steps.embed_file import embed_file
from scbert.steps.evaluate_file import evaluate_file

STRING = pd.StringDtype("python")


def nullable(cells):
    cells = cells.copy()
    cells.raw = cells
    cells.obs["who"] = pd.array([pd.NA, *["somebody"] * (cells.n_obs - 1)], dtype=STRING)
    cells.obs["group"] = pd.Categorical(pd.array(["a"] * cells.n_obs, dtype=STRING))
    cells.obs["cell_type"] = cells.obs.cell_type.astype(STRING)
    cells.obs.index = cells.obs.index.astype(STRING)
    cells.var.index = cells.var.index.astype(STRING)
    cells.raw.var.index = cells.raw.var.index.astype(STRING)
    cells.obsm["table"] = pd.DataFrame({"x": range(cells.n_obs)}, index=cells.obs_names)
    cells.uns["mine"] = {"names": pd.array(["a", "b"], dtype=STRING)}
    return cells


@pytest.fixture
def cells(toy):
    return toy.draw_cells(30, seed=5)


@pytest.fixture
def file(cells, tmp_path):
    with ad.settings.override(allow_write_nullable_strings=True):
        nullable(cells).write_h5ad(tmp_path / "nullable.h5ad")
    return tmp_path / "nullable.h5ad"


def assert_plain(found):
    assert {table.index.dtype for table in (found.obs, found.var, found.raw.var)} == {
        np.dtype(object)
    }
    assert not any(isinstance(kind, pd.StringDtype) for kind in found.obs.dtypes)
    assert found.obs.group.cat.categories.dtype == object
    assert found.obs.who.isna().tolist() == [True] + [False] * (found.n_obs - 1)
    assert found.obsm["table"].x.tolist() == list(range(found.n_obs))
    assert list(found.uns["mine"]["names"]) == ["a", "b"]


def test_annotate_writes_a_file_that_can_be_read(file, cells, toy_run, tmp_path):
    annotate_file(file, toy_run.model, tmp_path / "out.h5ad")
    found, expected = ad.read_h5ad(tmp_path / "out.h5ad"), scbert.annotate(cells, toy_run.model)
    assert_plain(found)
    assert found.obs.scbert_label.tolist() == expected.obs.scbert_label.tolist()
    assert found.obs.cell_type.tolist() == cells.obs.cell_type.tolist()


def test_an_anndata_in_memory_is_annotated_and_not_changed(cells, toy_run, tmp_path):
    given = nullable(cells)
    found = scbert.annotate(given, toy_run.model)
    assert isinstance(given.obs.index.dtype, pd.StringDtype)
    assert isinstance(given.raw.var.index.dtype, pd.StringDtype)
    found.write_h5ad(tmp_path / "out.h5ad")
    assert_plain(ad.read_h5ad(tmp_path / "out.h5ad"))


def test_embed_and_evaluate_take_such_a_file(file, toy_run, tmp_path):
    embed_file(file, toy_run.model, tmp_path / "out.h5ad")
    assert_plain(ad.read_h5ad(tmp_path / "out.h5ad"))
    assert evaluate_file(toy_run.model, file, label_key="cell_type")["n_test"] == 30


def test_plain_text_stays_the_same_object(cells):
    obs = cells.obs
    assert plain_table(obs) is obs
    make_plain(cells)
    assert cells.obs is obs


def test_a_result_that_cannot_be_read_back_does_not_take_its_name(
    cells, toy_run, tmp_path, monkeypatch
):
    from scbert.cells import result  # noqa: PLC0415

    cells.write_h5ad(tmp_path / "cells.h5ad")
    ad.AnnData(uns={"scbert": {"model_sha256": "0"}}).write_h5ad(tmp_path / "out.h5ad")
    before = (tmp_path / "out.h5ad").read_bytes()
    right = result.add

    def wrong(path, new, stale):
        right(path, new[:7], stale)

    monkeypatch.setattr(result, "add", wrong)
    with pytest.raises(ValueError, match=r"the result cannot be read back \(.*was not written"):
        annotate_file(tmp_path / "cells.h5ad", toy_run.model, tmp_path / "out.h5ad")
    assert (tmp_path / "out.h5ad").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad", "out.h5ad"]


def test_what_anndata_could_not_read_before_is_said_and_kept(cells, toy_run, tmp_path, caplog):
    """A newer version may have written it into uns, which annotation does not need."""
    import h5py  # noqa: PLC0415

    cells.uns["new"] = np.arange(3)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        file["uns/new"].attrs["encoding-type"] = "of the future"
    annotate_file(tmp_path / "cells.h5ad", toy_run.model, tmp_path / "out.h5ad")
    assert "anndata cannot read all of" in caplog.text
    with h5py.File(tmp_path / "out.h5ad") as file:
        assert file["uns/new"][:].tolist() == [0, 1, 2]
        assert len(file["obs/scbert_confidence"]) == 30
