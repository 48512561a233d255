import logging
import runpy
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse
from sklearn.metrics import f1_score

from scbert.calibration.confidence import softmax
from scbert.config import CompareSettings, load_config
from scbert.evidence.plane import plane_coordinates
from scbert.files import read_json
from scbert.steps.compare import compare
from scbert.steps.evaluate_test_cells import evaluate_test_cells

CONFIG = load_config(yaml.safe_load(Path("config/config.yaml").read_text()))
EVALUATE = CONFIG.evaluate.model_copy(update={"bootstrap_samples": 200})
COMPARE = CompareSettings(evaluate=EVALUATE, compare=CONFIG.compare)
LABELS = ["B cell", "NA", "T cell"]  # a type called NA is text, not a missing value
TEMPERATURE = 2.0
INTERVAL = {"mean", "low", "high"}


def write_split(folder, n_cells=48):
    """Cells in turn: of three types, and of the parts train, train, validation, test."""
    position = np.arange(n_cells)
    split = pd.DataFrame(
        {
            "cell": [f"cell{number}" for number in position],
            "cell_type": np.array(LABELS)[position % 3],
            "batch": "",
            "part": np.array(["train", "train", "validation", "test"])[position % 4],
        }
    )
    path = folder / "toy.tsv"
    split.to_csv(path, sep="\t", index=False)
    return path, split


def write_prediction(folder, test, seed, predicted=None):
    """Predict the truth, or what is given, with a margin of 3 before calibration."""
    predicted = test["cell_type"].to_numpy() if predicted is None else np.asarray(predicted)
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=0.1, size=(len(test), 3))
    for column, label in enumerate(LABELS):
        logits[predicted == label, column] += 3
    probabilities = softmax(logits, TEMPERATURE)
    adata = ad.AnnData(
        obs=pd.DataFrame(
            {
                "scbert_label": pd.Categorical(predicted),
                "scbert_confidence": probabilities.max(axis=1),
                "scbert_is_unknown": np.arange(len(test)) == 0,
                "scbert_novelty_score": 1 - probabilities.max(axis=1),
            },
            index=test["cell"].to_numpy(),
        ),
        obsm={
            "X_scbert": logits.repeat(2, axis=1).astype(np.float32),
            "scbert_probabilities": pd.DataFrame(
                probabilities, columns=LABELS, index=test["cell"].to_numpy()
            ),
        },
        uns={
            "scbert": {
                "temperature": TEMPERATURE,
                "novelty_score": "max_probability",
                "novelty_threshold": 0.5,
                "labels": LABELS,
            }
        },
    )
    path = folder / f"seed{seed}.h5ad"
    adata.write_h5ad(path)
    return path


def write_expression(folder, split, n_genes=12):
    """Each type has four marker genes; the cells stand in another order than in the split."""
    rng = np.random.default_rng(0)
    code = split["cell_type"].map(LABELS.index).to_numpy()
    markers = np.arange(n_genes) // 4 == code[:, None]
    values = np.log2(1 + rng.poisson(np.where(markers, 4.0, 0.5))).astype(np.float32)
    obs = pd.DataFrame(index=split["cell"].to_numpy())
    path = folder / "toy.h5ad"
    ad.AnnData(sparse.csr_matrix(values), obs=obs)[::-1].copy().write_h5ad(path)
    return path


@pytest.fixture
def split(tmp_path):
    return write_split(tmp_path)


@pytest.fixture
def test_cells(split):
    _, table = split
    return table[table["part"] == "test"]


def test_evaluate_of_one_error_in_24(tmp_path, split, test_cells):
    """12 test cells, two seeds; seed 10 gets the first cell wrong."""
    true = test_cells["cell_type"].to_numpy()
    wrong = true.copy()
    wrong[0] = next(label for label in LABELS if label != true[0])
    paths = [
        write_prediction(tmp_path, test_cells, 10, wrong),
        write_prediction(tmp_path, test_cells, 9),
    ]
    evaluate_test_cells(paths, split[0], tmp_path / "metrics" / "evaluation.json", EVALUATE)
    found = read_json(tmp_path / "metrics" / "evaluation.json")
    assert list(found) == [
        "dataset",
        "parts",
        "classes",
        "n_test",
        "seeds",
        "confidence_level",
        "scores",
        "confusion",
        "per_type",
        "reliability",
        "unknown",
        "embedding",
    ]
    assert found["dataset"] == "toy"
    assert found["classes"] == LABELS
    assert (found["n_test"], found["seeds"]) == (12, [9, 10])
    assert found["scores"]["accuracy"]["per_seed"] == [1, pytest.approx(11 / 12)]
    expected = (1 + f1_score(true, wrong, average="macro")) / 2
    assert found["scores"]["macro_f1"]["mean"] == pytest.approx(expected)
    assert np.sum(found["confusion"]) == 24
    assert np.trace(found["confusion"]) == 23
    assert [row["support"] for row in found["per_type"]] == [4, 4, 4]


def test_evaluate_compares_reliability_before_and_after_calibration(tmp_path, split, test_cells):
    """A margin of 3 is a probability of e^3 / (e^3 + 2) = 0.91, and at temperature 2 of 0.69."""
    write_prediction(tmp_path, test_cells, 1)
    evaluate_test_cells([tmp_path / "seed1.h5ad"], split[0], tmp_path / "e.json", EVALUATE)
    found = read_json(tmp_path / "e.json")["reliability"]
    assert found["temperature"] == [2]
    for name, expected in (("before", 0.91), ("after", 0.69)):
        assert found[name]["ece"] == pytest.approx(1 - expected, abs=0.03)  # of the noise
        assert sum(bin_["n"] for bin_ in found[name]["bins"]) == 12


def test_evaluate_reports_unknown_cells(tmp_path, split, test_cells):
    """The only refused cell is the only wrong one."""
    predicted = test_cells["cell_type"].to_numpy().copy()
    predicted[0] = "NA" if predicted[0] != "NA" else "B cell"
    path = write_prediction(tmp_path, test_cells, 1, predicted)
    evaluate_test_cells([path], split[0], tmp_path / "e.json", EVALUATE)
    found = read_json(tmp_path / "e.json")["unknown"]
    assert (found["threshold"], found["novelty_score"]) == ([0.5], "max_probability")
    assert (found["novel_types"], found["novel_cells"]) == ([], 0)
    assert found["calibrated"] == {
        "share_unknown": pytest.approx(1 / 12),
        "accuracy_of_accepted": 1,
        "strict_novel_accuracy": None,
        "known_accuracy": pytest.approx(11 / 12),
        "novel_detected": None,
        "false_unknown": pytest.approx(1 / 12),
    }
    assert found["original"]["share_unknown"] == 0  # probabilities are about 0.91
    assert found["by_score"][0]["novelty"]["auroc"] is None
    assert found["by_score"][0]["confidence"]["coverage_accuracy"]["accuracy"][-1] == 11 / 12


def test_evaluate_scores_cells_of_a_type_that_no_model_knows(tmp_path, test_cells, split):
    """The first cell is refused, rightly; the second is of the same type and is not."""
    path = write_prediction(tmp_path, test_cells, 1)
    table = split[1].copy()
    table.loc[test_cells.index[:2], "cell_type"] = "Platelet"
    table.to_csv(split[0], sep="\t", index=False)
    adata = ad.read_h5ad(path)
    adata.obs["scbert_novelty_score"] = [0.9, 0.1, 0.5, *[0.0] * 9]
    adata.write_h5ad(path)
    evaluate_test_cells([path], split[0], tmp_path / "e.json", EVALUATE)
    found = read_json(tmp_path / "e.json")["unknown"]
    assert (found["novel_types"], found["novel_cells"]) == (["Platelet"], 2)
    assert found["calibrated"]["strict_novel_accuracy"] == 0.5
    assert found["calibrated"]["known_accuracy"] == 1
    assert found["original"]["strict_novel_accuracy"] == 0
    assert found["by_score"][0]["novelty"]["auroc"] == pytest.approx(19 / 20)  # of 20 pairs


def test_evaluate_writes_null_if_every_cell_is_refused(tmp_path, split, test_cells):
    path = write_prediction(tmp_path, test_cells, 1)
    adata = ad.read_h5ad(path)
    adata.obs["scbert_is_unknown"] = True
    adata.write_h5ad(path)
    evaluate_test_cells([path], split[0], tmp_path / "e.json", EVALUATE)
    assert read_json(tmp_path / "e.json")["unknown"]["calibrated"]["accuracy_of_accepted"] is None


def test_evaluate_counts_a_type_that_no_model_knows(tmp_path, test_cells, split):
    """Batches may differ in their types; such cells are wrong, and their type has a row."""
    path = write_prediction(tmp_path, test_cells, 1)
    table = split[1].copy()
    table.loc[test_cells.index[:2], "cell_type"] = "Platelet"
    table.to_csv(split[0], sep="\t", index=False)
    evaluate_test_cells([path], split[0], tmp_path / "e.json", EVALUATE)
    found = read_json(tmp_path / "e.json")
    assert found["classes"] == [*LABELS, "Platelet"]
    assert found["scores"]["accuracy"]["mean"] == pytest.approx(10 / 12)
    assert found["per_type"][3] == {
        "cell_type": "Platelet",
        "precision": 0,
        "recall": 0,
        "f1": 0,
        "support": 2,
    }


def test_evaluate_does_not_depend_on_the_order_of_cells(tmp_path, split, test_cells):
    path = write_prediction(tmp_path, test_cells, 1)
    evaluate_test_cells([path], split[0], tmp_path / "forward.json", EVALUATE)
    ad.read_h5ad(path)[::-1].copy().write_h5ad(path)
    evaluate_test_cells([path], split[0], tmp_path / "backward.json", EVALUATE)
    assert (tmp_path / "forward.json").read_bytes() == (tmp_path / "backward.json").read_bytes()


def test_evaluate_logs_its_numbers(tmp_path, split, test_cells, caplog):
    path = write_prediction(tmp_path, test_cells, 1)
    with caplog.at_level(logging.INFO, logger="scbert"):
        evaluate_test_cells([path], split[0], tmp_path / "e.json", EVALUATE)
    assert "scBERT: accuracy 1.000 (1.000 to 1.000)" in caplog.text
    assert "12 test cells, 1 seed(s)" in caplog.text


def test_plane_coordinates_of_few_cells_are_principal_components():
    """Cells on a line, 5 apart: the first component keeps the distances, the second is empty."""
    line = np.outer(np.arange(4), [3.0, 4.0, 0.0])
    points = plane_coordinates(line, seed=0)
    assert np.abs(np.diff(points[:, 0])) == pytest.approx([5, 5, 5])
    assert points[:, 1] == pytest.approx(np.zeros(4), abs=1e-12)
    assert plane_coordinates(line[:1], seed=0).tolist() == [[0, 0]]


@pytest.mark.slow
def test_plane_coordinates_of_many_cells_keep_groups_together():
    """UMAP is compiled, which takes 13 s."""
    rng = np.random.default_rng(0)
    groups = np.repeat([0.0, 20.0], 25)[:, None] + rng.normal(size=(50, 6))
    points = plane_coordinates(groups, seed=0)
    assert points.shape == (50, 2)
    nearest = np.linalg.norm(points[:, None] - points[None], axis=2).argsort(axis=1)[:, 1]
    assert (nearest // 25 == np.arange(50) // 25).all()
    assert (plane_coordinates(groups, seed=0) == points).all()


@pytest.mark.parametrize(
    "n_cells",
    [14, pytest.param(15, marks=pytest.mark.slow), pytest.param(16, marks=pytest.mark.slow)],
)
def test_plane_coordinates_are_finite_around_the_smallest_umap(n_cells):
    embedding = np.random.default_rng(0).normal(size=(n_cells, 4)).astype(np.float32)
    assert np.isfinite(plane_coordinates(embedding, seed=0)).all()


def test_plane_coordinates_of_equal_cells_are_one_point():
    points = plane_coordinates(np.full((20, 3), 0.1, dtype=np.float32), seed=0)
    assert points == pytest.approx(np.zeros((20, 2)), abs=1e-6)  # the mean of 0.1 is rounded


def test_evaluate_refuses_other_cells(tmp_path, split, test_cells):
    path = write_prediction(tmp_path, test_cells.iloc[1:], 1)
    with pytest.raises(
        ValueError, match=r"exactly the 12 test cells.* 0 unexpected, 1 missing, 0 duplicated"
    ):
        evaluate_test_cells([path], split[0], tmp_path / "e.json", EVALUATE)
    train = split[1][split[1]["part"] == "train"]
    path = write_prediction(tmp_path, pd.concat([test_cells, train.iloc[:1]]), 1)
    with pytest.raises(ValueError, match=r"1 unexpected, 0 missing, 0 duplicated, such as 'cell0'"):
        evaluate_test_cells([path], split[0], tmp_path / "e.json", EVALUATE)
    assert not (tmp_path / "e.json").exists()


def test_evaluate_refuses_a_label_that_the_model_cannot_know(tmp_path, split, test_cells):
    predicted = ["Platelet", *test_cells["cell_type"].iloc[1:]]
    path = write_prediction(tmp_path, test_cells, 1, predicted)
    with pytest.raises(
        ValueError, match="predicts 'Platelet', but its model knows only B cell, NA"
    ):
        evaluate_test_cells([path], split[0], tmp_path / "e.json", EVALUATE)


def test_evaluate_refuses_numbers_that_are_none(tmp_path, split, test_cells):
    path = write_prediction(tmp_path, test_cells, 1)
    adata = ad.read_h5ad(path)
    adata.obsm["X_scbert"] = np.full((12, 2), np.nan, dtype=np.float32)
    adata.write_h5ad(path)
    with pytest.raises(ValueError, match=r"seed1\.h5ad holds NaN or infinity"):
        evaluate_test_cells([path], split[0], tmp_path / "e.json", EVALUATE)


def test_evaluate_refuses_seeds_that_know_other_types(tmp_path, split, test_cells):
    paths = [write_prediction(tmp_path, test_cells, seed) for seed in (1, 2)]
    adata = ad.read_h5ad(paths[1])
    adata.uns["scbert"]["labels"] = LABELS[::-1]
    adata.write_h5ad(paths[1])
    with pytest.raises(ValueError, match="seed 2 knows other cell types than seed 1"):
        evaluate_test_cells(paths, split[0], tmp_path / "e.json", EVALUATE)


def test_evaluate_refuses_no_prediction_and_a_name_without_seed(tmp_path, split, test_cells):
    with pytest.raises(ValueError, match="no prediction is given"):
        evaluate_test_cells([], split[0], tmp_path / "e.json", EVALUATE)
    path = write_prediction(tmp_path, test_cells, 1).rename(tmp_path / "mine.h5ad")
    with pytest.raises(ValueError, match=r"mine.h5ad does not say its seed.*seed\{n\}.h5ad"):
        evaluate_test_cells([path], split[0], tmp_path / "e.json", EVALUATE)


def test_evaluate_refuses_a_damaged_split(tmp_path, split, test_cells):
    path = write_prediction(tmp_path, test_cells, 1)
    pd.concat([split[1], split[1].iloc[:1]]).to_csv(split[0], sep="\t", index=False)
    with pytest.raises(ValueError, match="lists cell 'cell0' more than once"):
        evaluate_test_cells([path], split[0], tmp_path / "e.json", EVALUATE)
    test_cells.to_csv(split[0], sep="\t", index=False)
    with pytest.raises(ValueError, match="no cell in train, validation"):
        evaluate_test_cells([path], split[0], tmp_path / "e.json", EVALUATE)


def test_compare_puts_scbert_first_and_beside_it_every_method(tmp_path, split, test_cells):
    """Perfect predictions: no method can be better, and the controls must be worse."""
    paths = [write_prediction(tmp_path, test_cells, seed) for seed in (1, 2)]
    expression = write_expression(tmp_path, split[1])
    compare(expression, split[0], paths, tmp_path / "comparison.json", COMPARE)
    found = read_json(tmp_path / "comparison.json")
    assert list(found) == [
        "dataset",
        "n_test",
        "n_train",
        "n_validation",
        "confidence_level",
        "interval",
        "methods",
        "differences",
    ]
    assert (found["n_test"], found["n_train"], found["n_validation"]) == (12, 24, 12)
    methods = {row["method"]: row for row in found["methods"]}
    assert list(methods) == ["scbert", *CONFIG.compare.methods]
    assert methods["scbert"]["kind"] == "model"
    assert "seed 1, 2" in methods["scbert"]["setting"]
    for row in methods.values():
        assert set(row["macro_f1"]) == set(row["accuracy"]) == INTERVAL
        assert row["balanced_accuracy"]["mean"] <= 1
    assert methods["logistic_regression"]["accuracy"]["mean"] > 0.8
    assert methods["majority"]["accuracy"]["mean"] == pytest.approx(1 / 3)
    differences = {(row["method"], row["metric"]): row for row in found["differences"]}
    assert set(differences) == {
        (method, metric) for method in CONFIG.compare.methods for metric in ("macro_f1", "accuracy")
    }
    for (method, metric), row in differences.items():
        expected = 1 - methods[method][metric]["mean"]
        assert row["mean"] == pytest.approx(expected)
    assert differences["majority", "accuracy"]["low"] > 0


def test_compare_and_evaluate_agree_on_scbert_and_give_the_same_bits(tmp_path, split, test_cells):
    predicted = ["NA", "NA", *test_cells["cell_type"].iloc[2:]]
    paths = [write_prediction(tmp_path, test_cells, 1, predicted)]
    expression = write_expression(tmp_path, split[1])
    for name in ("one.json", "two.json"):
        compare(expression, split[0], paths, tmp_path / name, COMPARE)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    evaluate_test_cells(paths, split[0], tmp_path / "e.json", EVALUATE)
    ours = read_json(tmp_path / "one.json")["methods"][0]
    for metric, interval in read_json(tmp_path / "e.json")["scores"].items():
        assert ours[metric] == {key: interval[key] for key in INTERVAL}


def test_compare_refuses_cells_without_expression(tmp_path, split, test_cells):
    paths = [write_prediction(tmp_path, test_cells, 1)]
    expression = write_expression(tmp_path, split[1].iloc[:-2])
    with pytest.raises(ValueError, match="lacks 2 of the 48 cells of the split, such as 'cell46'"):
        compare(expression, split[0], paths, tmp_path / "c.json", COMPARE)


def test_scripts_run_their_steps(tmp_path, split, test_cells, monkeypatch):
    """In this process, without its logging and error hooks: a new one would import for seconds."""
    for hook in ("start_logging", "explain_user_errors", "end_when_told"):
        monkeypatch.setattr(f"scbert.config.script.{hook}", lambda: None)
    path = write_prediction(tmp_path, test_cells, 1)
    controls = COMPARE.compare.model_copy(update={"methods": ("majority", "random")})
    settings = COMPARE.model_copy(update={"compare": controls})
    shared = ["--split", split[0], "--predictions", path]
    expression = ["--expression", write_expression(tmp_path, split[1])]
    for script, arguments, section in (
        ("evaluate_test_cells", ["--evaluation", tmp_path / "e.json"], EVALUATE),
        ("compare", ["--comparison", tmp_path / "c.json", *expression], settings),
    ):
        words = [script, *shared, *arguments, "--settings", section.model_dump_json()]
        monkeypatch.setattr("sys.argv", [str(word) for word in words])
        runpy.run_path(f"scripts/{script}.py")
    assert read_json(tmp_path / "e.json")["n_test"] == 12
    assert len(read_json(tmp_path / "c.json")["methods"]) == 3
