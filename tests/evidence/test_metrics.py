from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
)

from scbert.config import load_config
from scbert.evidence import bootstrap, metrics
from scbert.evidence.bootstrap import Interval, resamples
from scbert.evidence.evaluation import SeedScores, TypeScores
from scbert.evidence.metrics import (
    bootstrap_scores,
    confusion,
    paired_difference,
    per_type_scores,
    scores,
)

CONFIG = load_config(yaml.safe_load(Path("config/config.yaml").read_text()))
SETTINGS = CONFIG.evaluate.model_copy(update={"bootstrap_samples": 200})
CLASSES = ["B cell", "NK cell", "T cell"]
TRUE = np.array(["T cell", "T cell", "T cell", "B cell"])
PREDICTED = np.array(["T cell", "T cell", "B cell", "B cell"])


def random_cells(n_cells=60, n_seeds=2, wrong=0.3):
    """Truth of three types, the last one rare, and predictions with some errors."""
    rng = np.random.default_rng(0)
    true = rng.choice(CLASSES, size=n_cells, p=[0.6, 0.35, 0.05])
    predictions = [
        np.where(rng.random(n_cells) < wrong, rng.choice(CLASSES, size=n_cells), true)
        for _ in range(n_seeds)
    ]
    return true, predictions


def test_scores_of_four_cells():
    """F1 of T cells: 2*2 / (3 + 2) = 0.8; of B cells: 2*1 / (1 + 2) = 2/3; recalls 2/3 and 1."""
    found = scores(TRUE, PREDICTED, CLASSES)
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)


def test_a_type_that_is_only_predicted_is_in_no_mean():
    """As with intervals: that a cell is called so lowers the score of its own type."""
    predicted = np.array(["T cell", "T cell", "NK cell", "B cell"])
    found = scores(TRUE, predicted, CLASSES)
    assert found["macro_f1"] == pytest.approx((0.8 + 1) / 2)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    same = bootstrap_scores(TRUE, [predicted], CLASSES, SETTINGS)
    assert found == pytest.approx({name: one.mean for name, one in same.items()})


def test_scores_agree_with_scikit_learn():
    true, (predicted, _) = random_cells()
    assert scores(true, predicted, CLASSES) == {
        "accuracy": accuracy_score(true, predicted),
        "macro_f1": f1_score(true, predicted, average="macro"),
        "balanced_accuracy": balanced_accuracy_score(true, predicted),
    }


def test_confusion_has_true_types_in_rows():
    assert confusion(TRUE, PREDICTED, CLASSES).tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 2]]


def test_per_type_scores_are_means_over_seeds():
    perfect_and_not = per_type_scores(TRUE, [TRUE, PREDICTED], CLASSES)
    assert perfect_and_not[2] == TypeScores(
        "T cell",
        precision=1.0,
        recall=pytest.approx((1 + 2 / 3) / 2),
        f1=pytest.approx((1 + 0.8) / 2),
        support=3,
    )
    assert perfect_and_not[1] == TypeScores("NK cell", precision=0, recall=0, f1=0, support=0)


def test_bootstrap_scores_report_all_test_cells_per_seed():
    true, predictions = random_cells()
    found = bootstrap_scores(true, predictions, CLASSES, SETTINGS)
    for metric, interval in found.items():
        per_seed = [scores(true, predicted, CLASSES)[metric] for predicted in predictions]
        assert interval.per_seed == pytest.approx(per_seed)
        assert interval.mean == pytest.approx(np.mean(per_seed))
        assert interval.low < interval.mean < interval.high


def test_bootstrap_scores_equal_scikit_learn_on_every_resample():
    true, predictions = random_cells(n_cells=40)
    settings = SETTINGS.model_copy(update={"bootstrap_samples": 100})
    _, resampled = metrics._all_and_resampled(true, predictions, CLASSES, settings)
    drawn = np.concatenate(list(resamples(len(true), settings)))
    n_without_a_type = 0
    for position, cells in enumerate(drawn):
        for seed, predicted in enumerate(predictions):
            expected = score_resample(true, predicted, cells)
            got = [resampled[metric][position, seed] for metric in metrics.METRICS]
            assert got == pytest.approx(expected)
        n_without_a_type += len(set(true[cells])) < len(set(true))
    assert n_without_a_type > 5  # the rare type is lost at times, so that rule is tested too


def score_resample(true, predicted, cells):
    """A type without cells in the resample keeps its score of all cells."""
    types = sorted(set(true))
    absent = ~np.isin(types, true[cells])
    one = {"labels": types, "average": None, "zero_division": 0}
    f1 = f1_score(true[cells], predicted[cells], **one)
    recall = recall_score(true[cells], predicted[cells], **one)
    f1[absent] = f1_score(true, predicted, **one)[absent]
    recall[absent] = recall_score(true, predicted, **one)[absent]
    return [accuracy_score(true[cells], predicted[cells]), f1.mean(), recall.mean()]


def test_confusions_of_resamples_equal_scikit_learn():
    true, (predicted, _) = random_cells()
    true_N, predicted_SN = metrics._encode(true, [predicted], CLASSES)
    drawn = next(resamples(len(true), SETTINGS))
    found = metrics._confusions(true_N * 3 + predicted_SN[0], drawn, 3)
    for cells, table in zip(drawn, found, strict=True):
        expected = confusion_matrix(true[cells], predicted[cells], labels=CLASSES)
        assert table.tolist() == expected.tolist()


def test_bootstrap_scores_of_a_perfect_prediction_are_one():
    """Also where a resample has no cell of the rare type."""
    true, _ = random_cells()
    for interval in bootstrap_scores(true, [true], CLASSES, SETTINGS).values():
        assert interval == SeedScores(mean=1, low=1, high=1, per_seed=[1])


def test_bootstrap_interval_of_accuracy_is_the_binomial_one():
    """400 cells at 0.8: standard error sqrt(0.8 * 0.2 / 400) = 0.02, so 0.8 -+ 1.96 * 0.02."""
    true = np.array(["B cell"] * 400)
    predicted = np.array(["B cell"] * 320 + ["T cell"] * 80)
    settings = SETTINGS.model_copy(update={"bootstrap_samples": 4000})
    found = bootstrap_scores(true, [predicted], CLASSES, settings)["accuracy"]
    assert found.low == pytest.approx(0.7608, abs=0.005)  # of 4,000 resamples: 0.001 is usual
    assert found.high == pytest.approx(0.8392, abs=0.005)


def test_bootstrap_scores_are_the_same_bits_for_the_same_seed(monkeypatch):
    """And whatever the number of resamples that are held in memory at once."""
    true, predictions = random_cells()
    first = bootstrap_scores(true, predictions, CLASSES, SETTINGS)
    assert bootstrap_scores(true, predictions, CLASSES, SETTINGS) == first
    monkeypatch.setattr(bootstrap, "NUMBERS_AT_ONCE", 7 * len(true))
    assert bootstrap_scores(true, predictions, CLASSES, SETTINGS) == first
    other = SETTINGS.model_copy(update={"seed": 1})
    assert bootstrap_scores(true, predictions, CLASSES, other) != first


def test_bootstrap_scores_do_not_depend_on_the_order_of_classes():
    true, predictions = random_cells()
    forward = bootstrap_scores(true, predictions, CLASSES, SETTINGS)
    backward = bootstrap_scores(true, predictions, CLASSES[::-1], SETTINGS)
    for metric, interval in forward.items():
        for key, value in vars(interval).items():
            assert getattr(backward[metric], key) == pytest.approx(value)


def test_paired_difference_is_zero_for_the_same_prediction():
    true, predictions = random_cells()
    for interval in paired_difference(true, predictions, predictions, CLASSES, SETTINGS).values():
        assert interval == Interval(mean=0, low=0, high=0)


def test_paired_difference_is_better_known_than_its_two_scores():
    """One cell in ten is won and none is lost: the rest, common to both, does not blur it."""
    true = np.array(CLASSES * 40)
    theirs = np.where(np.arange(120) % 3 == 0, "T cell", true)
    ours = np.where(np.arange(120) < 36, true, theirs)
    found = paired_difference(true, [ours], [theirs], CLASSES, SETTINGS)["accuracy"]
    apart = bootstrap_scores(true, [ours], CLASSES, SETTINGS)["accuracy"]
    assert found.mean == pytest.approx(0.1)
    assert 0 < found.low < 0.1 < found.high < 0.2
    assert found.high - found.low < 0.8 * (apart.high - apart.low)


def test_paired_difference_takes_other_numbers_of_seeds():
    true, predictions = random_cells(n_seeds=3)
    found = paired_difference(true, predictions, [true], CLASSES, SETTINGS)["macro_f1"]
    ours = bootstrap_scores(true, predictions, CLASSES, SETTINGS)["macro_f1"]
    assert found.mean == pytest.approx(ours.mean - 1)
    assert [found.low, found.high] == pytest.approx([ours.low - 1, ours.high - 1])


def test_scores_refuse_a_type_that_is_not_a_class():
    with pytest.raises(ValueError, match="'Platelet' is not among the 3 classes"):
        scores(TRUE, np.array(["T cell", "T cell", "Platelet", "B cell"]), CLASSES)


def test_scores_refuse_no_cells_and_no_predictions():
    with pytest.raises(ValueError, match="0 cells and 1 predictions"):
        scores(TRUE[:0], PREDICTED[:0], CLASSES)
    with pytest.raises(ValueError, match="4 cells and 0 predictions"):
        bootstrap_scores(TRUE, [], CLASSES, SETTINGS)


def test_scores_refuse_other_numbers_of_cells():
    with pytest.raises(ValueError, match="3 cells and the truth has 4"):
        bootstrap_scores(TRUE, [PREDICTED[:3]], CLASSES, SETTINGS)


def test_per_type_scores_agree_with_scikit_learn():
    true, (predicted, _) = random_cells()
    expected = precision_recall_fscore_support(true, predicted, labels=CLASSES)
    found = per_type_scores(true, [predicted], CLASSES)
    for name, column in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [getattr(row, name) for row in found] == pytest.approx(column.tolist())
