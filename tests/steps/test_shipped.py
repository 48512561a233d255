import importlib.util
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from scbert.shipped import BENCHMARK_ENCODER, BLOOD, ENCODER, model_folder, shipped_models
from scbert.steps.annotate_file import annotate
from scbert.steps.list_models import list_models
from scbert.training.bundle import load_model

ZHENG = Path(importlib.util.find_spec("scanpy").origin).parent / "datasets/10x_pbmc68k_reduced.h5ad"
LARGEST = {ENCODER: 12e6, BENCHMARK_ENCODER: 12e6, BLOOD: 8e6}  # bytes
LINEAGE = {
    "CD14+ Monocyte": "monocyte",
    "CD19+ B": "B",
    "CD4+/CD25 T Reg": "T",
    "CD4+/CD45RA+/CD25- Naive T": "T",
    "CD4+/CD45RO+ Memory": "T",
    "CD8+ Cytotoxic T": "T",
    "CD8+/CD45RA+ Naive Cytotoxic": "T",
    "CD56+ NK": "NK",
}


@pytest.fixture(scope="module")
def zheng():
    """Cells of a study that the blood model has not seen, which scanpy ships."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file is of an old anndata
        return ad.read_h5ad(ZHENG).raw.to_adata()


def test_what_the_package_ships_is_whole_and_small():
    models = shipped_models()
    assert set(models) == {ENCODER, BENCHMARK_ENCODER, BLOOD}
    for name, folder in models.items():
        load_model(folder)  # checks every file
        assert sum(file.stat().st_size for file in folder.iterdir()) < LARGEST[name]
        assert (folder / "README.md").is_file()


def test_a_model_here_goes_before_one_of_the_package_and_another_folder_does_not(
    tmp_path, monkeypatch, caplog
):
    assert model_folder(BLOOD) == shipped_models()[BLOOD]
    monkeypatch.chdir(tmp_path)
    (tmp_path / BLOOD).mkdir()
    assert model_folder(BLOOD) == shipped_models()[BLOOD]
    assert not caplog.records
    (tmp_path / BLOOD / "MANIFEST.sha256").touch()
    assert model_folder(BLOOD) == Path(BLOOD)
    assert "the model in ./blood is used" in caplog.text
    assert model_folder("nothing") == Path("nothing")


def test_models_lists_them_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [model.folder.name for model in list_models(None)] == [
        BLOOD,
        ENCODER,
        BENCHMARK_ENCODER,
    ]
    assert not any(model.problem for model in list_models(None))


def test_models_lists_those_of_the_folder_one_is_in(monkeypatch):
    monkeypatch.chdir(shipped_models()[ENCODER])
    (found,) = list_models(Path())
    assert (found.kind, found.problem) == ("pretrained", "")


def test_blood_is_named_without_any_model_of_ones_own(zheng):
    named = annotate(zheng)
    true = named.obs.bulk_labels.astype(str).map(LINEAGE)
    found = named.obs.scbert_parent_label.astype(str)
    known = true.notna().to_numpy()
    assert (found[known] == true[known]).mean() > 0.85
    assert np.isin(named.obs.scbert_label_ontology_term_id, ["unknown"]).sum() == 0
