"""Folders of zarr, .h5mu and AnnData saved as .h5: as .h5ad, and what is refused."""

import json
import logging
import os
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import write_elem
from scipy import sparse

from scbert.cells import matrix as matrix_module
from scbert.cells.how_to_read import HowToRead
from scbert.cells.query import open_query
from scbert.cells.read import read_cells
from scbert.steps.annotate_file import annotate, annotate_file
from scbert.steps.embed_file import embed_file
from scbert.steps.finetune_file import finetune_file
from scbert.steps.inspect_file import inspect_file
from tests.cells.test_count_table import run_advice
from tests.cells.test_tenx_h5 import write_10x

FORMS = ["zarr 2", "zarr 3", "h5mu", "zarr of MuData", "h5"]
WAYS = ["csr", "csc", "dense", "raw.X", "layers/counts"]


@pytest.fixture
def cells(toy):
    """45 cells with something in every place of an AnnData."""
    cells = toy.draw_cells(45, seed=5)
    cells.obs["leiden"] = pd.Categorical(list("zyx") * 15, categories=["z", "x", "y"])
    cells.obs["seen"] = pd.array([True, None, False] * 15, dtype="boolean")
    cells.obsm["X_pca"] = np.random.default_rng(0).normal(size=(45, 3))
    cells.obsm["table"] = pd.DataFrame({"x": np.arange(45.0)}, index=cells.obs_names)
    cells.obsp["distances"] = sparse.random(45, 45, 0.1, "csr", random_state=0)
    cells.uns["note"] = {"nested": np.arange(3), "word": "kept", "words": np.array(["a", "b"])}
    return cells


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(matrix_module, "CELLS_AT_ONCE", 7)
    monkeypatch.setattr(matrix_module, "VALUES_TO_TURN", 90)


def write(cells, folder, form):
    """Write cells in one of FORMS; return the path."""
    path = folder / {"h5mu": "q.h5mu", "h5": "q.h5"}.get(form, "q.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr says that its version 3 is young
        if form.startswith("zarr") and form[-1] in "23":
            with ad.settings.override(zarr_write_format=int(form[-1])):
                cells.write_zarr(path)
        elif form == "h5":
            cells.write_h5ad(folder / "q.h5ad")
            (folder / "q.h5ad").rename(path)
        else:
            write_mudata(path, {"rna": cells, "prot": cells[:, :2].copy()})
    return path


def write_mudata(path, modalities):
    """As mudata does: a group for each modality, and a head of 512 bytes."""
    import zarr  # noqa: PLC0415  with anndata

    zipped = path.suffix == ".zarr"
    file = zarr.open_group(path, mode="w", zarr_format=2) if zipped else h5py.File(path, "w")
    file.attrs["encoding-type"], file.attrs["encoding-version"] = "MuData", "0.1.0"
    group = file.create_group("mod")
    for name, cells in modalities.items():
        write_elem(group, name, cells)
    if not zipped:
        file.close()


def stored(cells, way):
    """Return the same counts at another place or in another form."""
    other = cells.copy()
    if way in ("csc", "dense"):
        other.X = cells.X.tocsc() if way == "csc" else cells.X.toarray()
    elif way == "layers/counts":
        other.layers["counts"] = cells.X
        other.X = np.full(cells.shape, -1.5, dtype=np.float32)
    elif way == "raw.X":
        other.raw = cells
        other = other[:, :9].copy()
        other.X = np.full(other.shape, -1.5, dtype=np.float32)
    return other


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
def test_every_store_and_matrix_is_read_in_parts_like_h5ad(cells, tmp_path, small_parts, form, way):
    plain = ad.AnnData(
        cells.X, obs=cells.obs, var=cells.var
    )  # what else there is takes half a second
    path = write(stored(plain, way), tmp_path, form)
    with open_query(path, HowToRead(), tmp_path, str(path), ["leiden", "seen"]) as query:
        found = np.vstack([part.toarray() for _, part in query.parts.each()])
        assert query.found == (way if way in ("raw.X", "layers/counts") else "X")
        assert list(query.obs.leiden) == list(cells.obs.leiden)
        assert list(query.genes.gene_ids) == list(cells.var.gene_ids)
    assert np.array_equal(found, cells.X.toarray())
    assert np.array_equal(found, read_cells(path).raw.X.toarray()) if way == "raw.X" else True


@pytest.mark.parametrize("form", FORMS)
def test_annotate_file_writes_all_that_was_in_the_store(cells, toy_run, tmp_path, form, caplog):
    caplog.set_level(logging.INFO, "scbert")
    path, out = write(cells, tmp_path, form), tmp_path / "out.h5ad"
    annotate_file(path, toy_run.model, out)
    found, expected = ad.read_h5ad(out), annotate(cells, toy_run.model)
    pd.testing.assert_frame_equal(found.obs, expected.obs, rtol=1e-5)
    for place in ("X", "obsp"):
        of = [x.obsp["distances"] if place == "obsp" else x.X for x in (found, cells)]
        assert np.array_equal(of[0].toarray(), of[1].toarray())
    assert np.array_equal(found.obsm["X_pca"], cells.obsm["X_pca"])
    assert found.obsm["table"].x.tolist() == cells.obsm["table"].x.tolist()
    assert found.uns["note"]["word"] == "kept"
    assert list(found.uns["note"]["words"]) == ["a", "b"]
    said = "the modality 'rna' is read; left out are prot" in caplog.text
    assert said == (form in ("h5mu", "zarr of MuData"))


@pytest.mark.parametrize("form", ["zarr 2", "h5mu", "h5"])
def test_other_commands_read_stores_too(cells, toy_run, tmp_path, form):
    path = write(cells, tmp_path, form)
    embed_file(path, toy_run.model, tmp_path / "out.h5ad")
    assert ad.read_h5ad(tmp_path / "out.h5ad").obsm["X_scbert"].shape[0] == 45
    found = inspect_file(path, toy_run.model)
    assert not found.refusal
    assert dict(found.rows)["cells"] == "45"


@pytest.mark.slow
def test_finetune_takes_a_folder_of_zarr(toy, toy_run, tmp_path):
    path = write(toy.draw_cells(60, seed=3), tmp_path, "zarr 2")
    config = tmp_path / "c.yaml"
    config.write_text("finetune: {experts: [logistic_regression]}\ncounts: {min_genes: 1}\n")
    finetune_file(
        path,
        tmp_path / "model",
        label_key="cell_type",
        pretrained=toy_run.pretrained,
        config=config,
        test=False,
        device="cpu",
    )
    assert (tmp_path / "model/labels.json").is_file()


def test_a_mudata_without_rna_names_the_modalities(cells, toy_run, tmp_path):
    write_mudata(tmp_path / "q.h5mu", {"gex": cells, "prot": cells})
    with pytest.raises(ValueError, match=r"modalities gex, prot, but .* 'rna'.*\['gex'\].write_h5"):
        annotate_file(tmp_path / "q.h5mu", toy_run.model, tmp_path / "out.h5ad")
    assert [path.name for path in tmp_path.iterdir()] == ["q.h5mu"]


def link(path):
    target = path.parent / "elsewhere"
    (path / "X/data").rename(target)
    (path / "X/data").symlink_to(target)


def pipe(path):
    os.mkfifo(path / "X/pipe")


def pickled(path):
    file = path / "obs/cell_type/categories/.zarray"
    made = json.loads(file.read_text())
    file.write_text(json.dumps(made | {"filters": [{"id": "pickle"}]}))


def damaged(path):
    (path / "X/data/.zarray").write_text("{")


def no_list(path):
    file = path / "obs/cell_type/categories/.zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"filters": 2}))


def gone(part):
    def remove(path):
        next(file for file in (path / "X" / part).iterdir() if file.name[0] != ".").unlink()

    return remove


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (link, "'X/data' of .* is a link.*cp -rL"),
        (pipe, "'X/pipe' of .* is a link"),
        (pickled, "packed with 'pickle'.*can run code.*write_zarr"),
        (damaged, "'X/data' of .* is damaged"),
        (no_list, "'obs/cell_type/categories' of .* is damaged.*'filters' is no list"),
        (gone("data"), "1 of the 1 chunks of '.*data' are missing"),
        (gone("indices"), "1 of the 1 chunks of '.*indices' are missing"),
    ],
)
def test_a_zarr_that_is_damaged_or_reaches_out_is_refused(
    cells, toy_run, tmp_path, change, message
):
    path = write(cells, tmp_path, "zarr 2")
    change(path)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        annotate_file(path, toy_run.model, tmp_path / "out.h5ad")
    assert not (tmp_path / "out.h5ad").exists()
    assert inspect_file(path, None).refusal


@pytest.mark.parametrize("form", ["zarr 3", "h5"])
@pytest.mark.parametrize("place", ["obs/seen/mask", "X/indices", "var/_index"])
def test_a_file_that_declares_far_more_than_it_holds_is_refused(
    cells, toy_run, tmp_path, form, place
):
    """What is not there is read as zeros, for which there would be no memory."""
    path = write(cells, tmp_path, form)
    if form == "h5":
        with h5py.File(path, "r+") as file:
            attributes, kind = dict(file[place].attrs), file[place].dtype
            del file[place]
            made = file.create_dataset(place, (10**11,), kind, chunks=(10**6,))
            made.attrs.update(attributes)
    else:
        metadata = path / place / "zarr.json"
        content = json.loads(metadata.read_text())
        content["shape"] = [10**11]
        metadata.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"'{place}' of .* declares \d[\d,]+ bytes, but "):
        annotate_file(path, toy_run.model, tmp_path / "out.h5ad")


def test_a_file_to_which_nothing_can_be_added_is_refused(cells, toy_run, tmp_path):
    path = write(cells, tmp_path, "h5")
    with h5py.File(path, "r+") as file:
        del file["obsm"]
        file["obsm"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"'obsm' of .* is not a group of entries"):
        annotate_file(path, toy_run.model, tmp_path / "out.h5ad")


def test_a_codec_within_a_shard_is_looked_at(cells, tmp_path):
    path = write(cells, tmp_path, "zarr 3")
    file = path / "X/data/zarr.json"
    made = json.loads(file.read_text())
    made["codecs"] = [
        {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "numcodecs.pickle"}]}}
    ]
    file.write_text(json.dumps(made))
    with pytest.raises(ValueError, match=r"packed with .numcodecs\.pickle"):
        read_cells(path)


def cellbender(path, cells, version):
    """Add what CellBender 0.3 writes beside the matrix."""
    write_10x(path, cells, version, others=0)
    with h5py.File(path, "a") as file:
        if version == 2:
            file.move("hg19", "background_removed")
        for name in ("droplet_latents", "global_latents", "metadata"):
            file.create_group(name)["barcode_indices"] = np.arange(3)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_cellbenders_output_is_read(cells, tmp_path, version):
    found = read_cells(cellbender(tmp_path / "a.h5", cells, version))
    assert np.array_equal(found.X.toarray(), cells.X.toarray())


def test_a_matrix_under_a_name_with_a_slash_is_refused_at_every_door(cells, tmp_path):
    """anndata writes it, with a warning, and cannot read it."""
    cells.layers["a/b"], cells.layers["it's/c"] = cells.X.copy(), cells.X.copy()
    cells.obsm["X/pca"] = cells.obsm["X_pca"]
    path = tmp_path / "q q.h5mu"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_mudata(path, {"rna": cells})
        cells.write_h5ad(tmp_path / "q.h5ad")
    for door in (lambda: read_cells(path), lambda: read_cells(tmp_path / "q.h5ad")):
        with pytest.raises(ValueError, match=r"layers of .* has 'a/b' \(\d such\).*in the file"):
            door()
    assert "with a slash" in inspect_file(path, None).refusal
    for _ in ("layers", "obsm"):
        run_advice(inspect_file(path, None).refusal, "in the file: ")
    found = read_cells(path)
    assert set(found.layers) == {"a|b", "it's|c"}
    assert (found.layers["a|b"] != cells.X).nnz == 0
    assert (found.obsm["X|pca"] == cells.obsm["X_pca"]).all()
