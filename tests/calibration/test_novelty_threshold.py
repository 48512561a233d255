import numpy as np
import pytest

from scbert.calibration.novelty_threshold import (
    UnknownScores,
    coverage_accuracy,
    novelty_auroc,
    unknown_scores,
)


def flags(text):
    return np.array([letter == "x" for letter in text])


def test_refusal_scores_of_eight_cells():
    """Three novel cells, two of them called unknown, and one of five known cells, too."""
    found = unknown_scores(
        unknown=flags("xx.x...."), is_novel=flags("xxx....."), correct=flags("...xxxx.")
    )
    assert found == UnknownScores(
        share_unknown=3 / 8,
        accuracy_of_accepted=3 / 5,
        strict_novel_accuracy=2 / 4,
        known_accuracy=3 / 5,
        novel_detected=2 / 3,
        false_unknown=1 / 5,
    )


def test_refusing_every_cell_is_not_rewarded():
    """10 of 100 cells are novel: the strict accuracy is their share."""
    novel = np.arange(100) < 10
    found = unknown_scores(np.ones(100, dtype=bool), novel, ~novel)
    assert (found.strict_novel_accuracy, found.novel_detected) == (0.1, 1)
    assert (found.known_accuracy, found.accuracy_of_accepted) == (0, None)


def test_scores_of_no_novel_cell_are_none():
    found = unknown_scores(flags("x."), flags(".."), flags("xx"))
    assert found.strict_novel_accuracy is found.novel_detected is None
    assert novelty_auroc(np.array([1.0, 2.0]), flags("..")) is None
    assert novelty_auroc(np.array([1.0, 2.0]), flags("xx")) is None


def test_novelty_auroc_counts_pairs():
    """Novel 3 and 1, known 2 and 0: three of the four pairs are in order."""
    assert novelty_auroc(np.array([3, 1, 2, 0]), flags("xx..")) == 0.75


def test_coverage_accuracy_of_four_cells():
    """Accepted from the lowest score on: right, right, wrong, right."""
    found = coverage_accuracy(np.array([0.9, 0.1, 0.2, 0.5]), flags("xxx."))
    assert found.coverage == [0.25, 0.5, 0.75, 1]
    assert found.accuracy == pytest.approx([1, 1, 2 / 3, 3 / 4])
    assert found.area == pytest.approx((1 + 1 + 2 / 3 + 3 / 4) / 4)


def test_coverage_accuracy_of_equal_scores_does_not_depend_on_the_order():
    correct = flags("xx..")
    assert coverage_accuracy(np.zeros(4), correct) == coverage_accuracy(np.zeros(4), correct[::-1])
    assert coverage_accuracy(np.zeros(4), correct).accuracy == [0.5] * 4


def test_coverage_accuracy_ends_at_the_accuracy_and_stays_small():
    rng = np.random.default_rng(0)
    score, correct = rng.random(5000), rng.random(5000) < 0.8
    found = coverage_accuracy(score, correct)
    assert len(found.coverage) == len(found.accuracy) == 201
    assert found.coverage[-1] == 1
    assert found.accuracy[-1] == pytest.approx(correct.mean())


def test_coverage_accuracy_refuses_no_cell():
    with pytest.raises(ValueError, match="no cell is given"):
        coverage_accuracy(np.array([]), np.array([]))
