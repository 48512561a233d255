import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from scbert.calibration.fitted import Levels
from scbert.calibration.parents import (
    NEVER,
    confidence_threshold,
    fit_levels,
    level_calls,
    parent_probabilities,
)

PARENTS = ["T cell", "T cell", "NK cell", "B cell"]
LABELS = [
    {"name": name, "parent": parent}
    for name, parent in zip(("CD4 T", "CD8 T", "NK", "B"), PARENTS, strict=True)
]
LEVELS: Levels = {"error_rate": 0.1, "child_threshold": 0.6, "parent_threshold": 0.7}
PROBABILITIES = arrays(
    np.float64, st.tuples(st.integers(1, 12), st.just(4)), elements=st.floats(-30, 30)
).map(lambda logits: softmax(logits, axis=1))


def test_parent_probabilities_of_one_cell():
    names, found = parent_probabilities(np.array([[0.3, 0.4, 0.2, 0.1]]), PARENTS)
    assert names == ["B cell", "NK cell", "T cell"]
    assert found[0] == pytest.approx([0.1, 0.2, 0.7])


def test_level_calls_fall_back_to_the_parent():
    """A sure child; a sure parent only; neither; and a child whose parent is not the likeliest."""
    probabilities = np.array(
        [[0.9, 0.05, 0.05, 0], [0.4, 0.4, 0.1, 0.1], [0.3, 0.2, 0.4, 0.1], [0.34, 0.3, 0.36, 0]]
    )
    found = level_calls(probabilities, LABELS, LEVELS)
    assert found["scbert_parent_label"].tolist() == ["T cell"] * 4
    assert found["scbert_parent_confidence"] == pytest.approx([0.95, 0.8, 0.5, 0.64])
    assert found["scbert_best_label"].tolist() == ["CD4 T", "T cell", "unknown", "unknown"]


@given(PROBABILITIES)
def test_both_levels_always_agree(probabilities):
    names, of_parents = parent_probabilities(probabilities, PARENTS)
    assert of_parents.sum(axis=1) == pytest.approx(np.ones(len(probabilities)))
    assert (of_parents.max(axis=1) >= probabilities.max(axis=1) - 1e-12).all()
    found = level_calls(probabilities, LABELS, LEVELS)
    parent_of = {entry["name"]: entry["parent"] for entry in LABELS}
    for best, parent in zip(found["scbert_best_label"], found["scbert_parent_label"], strict=True):
        assert best == "unknown" or parent_of.get(best, best) == parent
    assert set(found["scbert_parent_label"].categories) == set(names)


@given(PROBABILITIES, st.data())
def test_no_level_is_wrong_more_often_than_allowed(probabilities, data):
    n_cells = len(probabilities)
    label = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n_cells, max_size=n_cells)))
    rate = data.draw(st.sampled_from([0.05, 0.25, 0.5]))
    levels = fit_levels(probabilities, label, PARENTS, rate)
    found = level_calls(probabilities, LABELS, levels)
    true_parent = np.array(PARENTS)[label]
    sure = found["scbert_parent_confidence"] >= levels["parent_threshold"]
    wrong = np.array(found["scbert_parent_label"])[sure] != true_parent[sure]
    assert not len(wrong) or wrong.mean() <= rate
    best = np.array(found["scbert_best_label"], dtype=str)
    names = np.array([entry["name"] for entry in LABELS])
    children = np.isin(best, names)
    assert not children.any() or (best != names[label])[children].mean() <= rate


def test_confidence_threshold_of_five_cells():
    """From the surest on: right, right, wrong, right, wrong. Three of the first four are right."""
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    correct = np.array([True, True, False, True, False])
    assert confidence_threshold(confidence, correct, 0.25) == 0.6
    assert confidence_threshold(confidence, correct, 0.1) == 0.8
    assert confidence_threshold(confidence, correct, 0.4) == 0.5


def test_confidence_threshold_takes_equal_cells_together():
    """The surest three are equal and one of them is wrong: not even they may be trusted."""
    found = confidence_threshold(np.full(3, 0.9), np.array([True, True, False]), 0.1)
    assert found == NEVER


def test_labels_without_parents_get_no_columns():
    assert level_calls(np.array([[1.0, 0]]), [{"name": "A"}, {"name": "B"}], None) == {}


def test_confidence_threshold_refuses_no_cell():
    with pytest.raises(ValueError, match="no validation cell"):
        confidence_threshold(np.array([]), np.array([], dtype=bool), 0.1)
