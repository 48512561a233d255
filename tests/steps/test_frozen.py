"""The default: the encoder stays as it was pretrained, and experts learn in seconds."""

import json
import shutil
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import scbert
from scbert.cells.how_to_read import AUTOMATIC
from scbert.cells.query import query_in_memory
from scbert.explain.chosen_cells import Candidates, choose_cells
from scbert.files import read_json
from scbert.network.model import MaskedExpressionModel
from scbert.steps.annotate_file import annotate, annotate_checked
from scbert.steps.embed_file import MEAN, embed
from scbert.steps.evaluate_file import evaluate_file
from scbert.steps.explain_file import explain_file
from scbert.training.bundle import load_finetuned, load_pretrained
from scbert.training.components import Components
from scbert.training.query_tokens import tokens_for

pytestmark = pytest.mark.slow

FILES = (
    "weights.safetensors",
    "experts.safetensors",
    "principal_components.safetensors",
    "training_cells.safetensors",
    "calibration.json",
    "labels.json",
    "genes.tsv",
)
EXPERTS = ("logistic_regression", "discriminant", "encoder")


def same_bits(one, two, names=FILES):
    return all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


@pytest.fixture
def train(toy, toy_run, mean_config, tmp_path):
    def run(name, settings=mean_config, **other):
        given = {"model": tmp_path / name, "checkpoint": tmp_path / f"{name}_state"}
        toy.finetune(toy_run, settings, **given | other)
        return tmp_path / name

    return run


@pytest.fixture(scope="module")
def without(mean_run):
    """The encoder has weight 0: the others know the planted types."""
    return load_finetuned(mean_run.model)


@pytest.fixture(scope="module")
def weighed(without):
    """The same model, whose encoder has half of all weight."""
    experts = {name: dict(one) for name, one in without.calibration["experts"].items()}
    for name, weight in zip(EXPERTS, (0.25, 0.25, 0.5), strict=True):
        experts[name]["weight"] = weight
    return replace(without, calibration=without.calibration | {"experts": experts})


@pytest.fixture
def query(toy):
    return toy.draw_cells(45, seed=5)


def test_the_bundle_is_complete(mean_run, without):
    names = {path.name for path in mean_run.model.iterdir()}
    assert names == {*FILES, "config.json", "history.jsonl", "MANIFEST.sha256"}
    assert (mean_run.model / "history.jsonl").read_text() == ""
    assert type(without.network) is MaskedExpressionModel
    assert set(without.experts) == set(EXPERTS)
    assert without.experts["encoder"].vector_weight_CD.shape == (3, 16)
    assert without.committee.shares["encoder"].weight == 0
    found = without.calibration
    assert set(found["experts"]) == set(EXPERTS)
    assert (found["out_of_fold"]["cells"], found["out_of_fold"]["folds_by"]) == (72, "cell")
    assert found["out_of_fold"]["macro_f1"] > 0.85


def test_the_encoder_is_that_of_the_pretrained_bundle(mean_run, without):
    before = load_pretrained(mean_run.pretrained).network.state_dict()
    after = without.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], value) for key, value in after.items())


def test_the_same_seed_gives_the_same_bits(train):
    assert same_bits(train("first"), train("again"))


def test_test_labels_are_never_read(toy_run, train, tmp_path):
    split = pd.read_csv(toy_run.split, sep="\t", keep_default_na=False)
    first = train("first")
    blind = split.assign(cell_type=split.cell_type.where(split.part != "test", "nobody knows"))
    blind.to_csv(tmp_path / "blind.tsv", sep="\t", index=False)
    assert same_bits(first, train("blind", split=tmp_path / "blind.tsv"))
    other = split.index[(split.part == "train") & (split.cell_type == "B cell")][:5]
    split.loc[other, "cell_type"] = "T cell"
    split.to_csv(tmp_path / "seen.tsv", sep="\t", index=False)
    seen = train("seen", split=tmp_path / "seen.tsv")
    assert not same_bits(first, seen, ["experts.safetensors"])  # so the comparison can fail


def test_genes_of_a_frozen_encoder_are_chosen_without_labels(toy, toy_run, train, mean_config):
    few = mean_config.model_copy(
        update={"finetune": toy.change(mean_config.finetune, variable_genes=25)}
    )
    bundle = load_finetuned(train("few", few))
    assert bundle.used.sum() == 25
    markers = bundle.genes.symbol.isin(toy.symbols[:30]).to_numpy()
    assert (bundle.used & markers).sum() >= 24
    assert bundle.learned.all()  # the other experts read all genes


def test_experts_without_the_encoder_need_no_network(toy, train, mean_config, query):
    options = toy.change(mean_config.finetune, experts=("scaled_logistic_regression",))
    bundle = load_finetuned(train("alone", mean_config.model_copy(update={"finetune": options})))
    assert set(bundle.experts) == set(bundle.committee.shares) == {"scaled_logistic_regression"}
    assert bundle.calibration["out_of_fold"]["encoder_adds"] is None
    for all_experts in (False, True):
        found = annotate(query, bundle, all_experts=all_experts)
        assert (found.obs.scbert_label.astype(str) == found.obs.cell_type).mean() > 0.85
        assert "scbert_agreement" not in found.obs
        assert found.uns["scbert"]["vectors"] == "principal components"


def test_an_encoder_alone_answers_by_its_expert(toy, train, mean_config, query):
    options = toy.change(mean_config.finetune, experts=("encoder",))
    bundle = load_finetuned(train("alone", mean_config.model_copy(update={"finetune": options})))
    assert bundle.committee.shares["encoder"].weight == 1
    found = annotate(query, bundle)
    assert (found.obs.scbert_label.astype(str) == found.obs.cell_type).mean() > 0.85
    assert found.uns["scbert"]["vectors"] == "encoder"


def test_annotate_asks_no_encoder_without_weight(query, without, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr("scbert.training.committee.outputs", never)
    found = annotate(query, without)
    assert (found.obs.scbert_label.astype(str) == found.obs.cell_type).mean() > 0.85
    assert "scbert_label_encoder" not in found.obs
    assert found.uns["scbert"]["vectors"] == "principal components"
    assert found.obsm["X_scbert"].shape == (45, 20)
    said = [found.obs[f"scbert_label_{name}"].astype(str) for name in EXPERTS[:2]]
    agree = sum(one == found.obs.scbert_label.astype(str) for one in said) / 2
    assert found.obs.scbert_agreement.tolist() == agree.tolist()
    with pytest.raises(AssertionError):
        annotate(query, without, all_experts=True)


def test_a_file_of_a_few_genes_is_read_by_what_they_let_expect(query, without, monkeypatch):
    """Of ten markers of each type one is there; with the others silent, it would say little."""

    def probability_of_the_truth():
        found = annotate(query[:, np.arange(query.n_vars) % 10 == 3].copy(), without)
        chances = found.obsm["scbert_probabilities"]
        column = chances.columns.get_indexer(found.obs.cell_type.astype(str))
        return chances.to_numpy()[np.arange(len(chances)), column].mean()

    expected = probability_of_the_truth()
    monkeypatch.setattr(Components, "adapted", lambda self, expert, measured: expert)
    assert expected > max(0.6, probability_of_the_truth() + 0.05)


def test_every_door_reads_a_file_of_a_few_genes_alike(toy, query, without):
    few = query[:, np.arange(query.n_vars) % 10 < 3].copy()
    named = annotate(few, without)
    expected = named.obsm["scbert_probabilities"].to_numpy()
    few.obs["library_size"] = np.asarray(few.X.sum(axis=1)).ravel()
    checked = annotate_checked(few, without, "cpu", "few")  # as evaluate asks
    assert (checked.obsm["scbert_probabilities"].to_numpy() == expected).all()
    store, _ = tokens_for(query_in_memory(few, AUTOMATIC, "few"), without).store()
    settings, rows = toy.config().explain, np.arange(few.n_obs)
    candidates = Candidates("few", store, rows)
    chosen = choose_cells(candidates, without, settings, torch.device("cpu"))
    found = chosen.probabilities(chosen.store, chosen.rows)
    assert len(found) > 10
    which = [np.abs(expected - one).sum(axis=1).argmin() for one in found]
    assert found == pytest.approx(expected[which], abs=1e-4)


@pytest.mark.parametrize("score", ["expression_distance", "energy"])
def test_to_ask_all_experts_changes_no_call(toy, train, mean_config, query, score):
    options = toy.change(mean_config.annotate, novelty_score=score)
    bundle = load_finetuned(train(score, mean_config.model_copy(update={"annotate": options})))
    few, every = annotate(query, bundle), annotate(query, bundle, all_experts=True)
    added = set(every.obs) - set(few.obs)
    assert added == {"scbert_label_encoder"}
    for column in set(few.obs) - {"scbert_agreement"}:
        assert few.obs[column].equals(every.obs[column]), column
    assert every.uns["scbert"]["vectors"] == "encoder"
    assert every.obsm["X_scbert"].shape == (45, 16)


def test_an_encoder_with_weight_takes_part(query, without, weighed):
    found, other = annotate(query, weighed), annotate(query, without)
    assert "scbert_label_encoder" in found.obs
    assert found.uns["scbert"]["vectors"] == "encoder"
    assert np.abs(found.obs.scbert_confidence - other.obs.scbert_confidence).max() > 1e-3
    assert (found.obs.scbert_label.astype(str) == found.obs.cell_type).mean() > 0.85


def test_embed_gives_the_mean_over_the_tokens(query, mean_run, without, weighed):
    found = embed(query, without)
    assert found.uns["scbert_embedding"]["vector"] == MEAN
    asked = annotate(query, weighed).obsm["X_scbert"]
    assert np.abs(found.obsm["X_scbert"] - asked).max() < 1e-5
    pretrained = embed(query, load_pretrained(mean_run.pretrained))
    assert np.abs(found.obsm["X_scbert"] - pretrained.obsm["X_scbert"]).max() < 1e-5


@pytest.mark.parametrize("which", ["without", "weighed"])
def test_evaluate_scores_every_expert_that_was_asked(
    request, mean_run, query, tmp_path, monkeypatch, which
):
    bundle = request.getfixturevalue(which)
    query.write_h5ad(tmp_path / "test.h5ad")
    monkeypatch.setattr("scbert.steps.evaluate_file.load_finetuned", lambda folder: bundle)
    found = evaluate_file(mean_run.model, tmp_path / "test.h5ad", label_key="cell_type")
    methods = {entry["method"]: entry for entry in found["methods"]}
    asked = EXPERTS if which == "weighed" else EXPERTS[:2]
    assert set(methods) == {"scbert", "majority", *asked}
    said = annotate(query, bundle).obs.scbert_label.astype(str)
    right = (said == query.obs.cell_type).mean()
    assert methods["scbert"]["accuracy"]["mean"] == pytest.approx(right)


@pytest.mark.parametrize("which", ["without", "weighed"])
def test_explain_finds_the_markers(request, toy, query, tmp_path, monkeypatch, which):
    pytest.importorskip("captum", reason="captum is not installed: extra [explain]")
    bundle = request.getfixturevalue(which)
    monkeypatch.setattr("scbert.steps.explain_file.finetuned", lambda folder: bundle)
    query.write_h5ad(tmp_path / "query.h5ad")
    small = {"deletions": (1, 2, 5), "random_draws": 2, "bootstrap_samples": 200}
    settings = toy.change(toy.config().explain, cells_per_type=6, steps=8, top_genes=5, **small)
    options = {"label_key": "cell_type", "reading": AUTOMATIC, "settings": settings}
    options |= {"device": "cpu"}
    explain_file(tmp_path / "query.h5ad", tmp_path / "model", tmp_path / "out", **options)
    genes = pd.read_csv(tmp_path / "out/genes.tsv", sep="\t")
    for number, name in enumerate(toy.types):
        best = genes[(genes.cell_type == name) & (genes.gradients_rank <= 5)].gene
        markers = {f"GENE{10 * number + one}" for one in range(1, 11)}
        assert len(set(best) & markers) >= 4
    assert read_json(tmp_path / "out/explanation.json")["cells"] == dict.fromkeys(toy.types, 6)


def test_the_folder_alone_is_enough(mean_run, query, tmp_path):
    copy = shutil.copytree(mean_run.model, tmp_path / "elsewhere")
    found, expected = annotate(query, copy), scbert.annotate(query, mean_run.model)
    assert found.obs.equals(expected.obs)
    found.write_h5ad(tmp_path / "found.h5ad")
    assert ad.read_h5ad(tmp_path / "found.h5ad").obs.scbert_agreement.between(0, 1).all()
    assert json.loads((copy / "config.json").read_text())["format"] == 7
