import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from scbert.calibration.confidence import (
    ConfidenceBin,
    change_temperature,
    expected_calibration_error,
    fit_temperature,
    reliability,
    softmax,
)
from scbert.calibration.novelty_threshold import novelty_threshold


def cells(temperature, n_cells=4000):
    """Draw labels from logits, and return the logits too large by the factor `temperature`."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(n_cells, 4))
    cumulative = softmax(logits, 1).cumsum(axis=1)
    labels = (rng.random((n_cells, 1)) > cumulative[:, :3]).sum(axis=1)
    return logits * temperature, labels


def test_softmax_of_a_temperature():
    """Logits ln 9 and 0 are 9 : 1; at temperature 2 the square root of it, 3 : 1."""
    logits = np.array([[np.log(9), 0]])
    assert softmax(logits, 1)[0] == pytest.approx([0.9, 0.1])
    assert softmax(logits, 2)[0] == pytest.approx([0.75, 0.25])


def test_softmax_survives_large_logits():
    assert softmax(np.array([[1e4, -1e4, 0]]), 1).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_fit_temperature_finds_the_factor_that_logits_are_too_large(temperature):
    """4,000 cells know it to about 2.5 %."""
    assert fit_temperature(*cells(temperature)) == pytest.approx(temperature, rel=0.06)


def test_fit_temperature_minimises_the_loss():
    """With the targets of Platt: 301 / 302 for the label, the rest for the others."""
    logits, labels = cells(2.0, n_cells=300)
    others = 1 / 302
    target = np.full(logits.shape, others / (logits.shape[1] - 1))
    target[np.arange(300), labels] = 1 - others

    def loss(temperature):
        return -(target * log_softmax(logits / temperature, axis=1)).sum()

    reference = minimize(lambda log: loss(np.exp(log[0])), x0=[0.0], method="Nelder-Mead")
    assert fit_temperature(logits, labels) == pytest.approx(np.exp(reference.x[0]), rel=1e-3)


def test_fit_temperature_does_not_depend_on_a_constant_per_cell_or_the_order():
    logits, labels = cells(2.0, n_cells=300)
    found = fit_temperature(logits, labels)
    moved = logits + np.arange(300)[:, None]
    assert fit_temperature(moved[::-1], labels[::-1]) == pytest.approx(found, rel=1e-4)
    assert fit_temperature(logits, labels) == found


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("n_cells", [2, 8, 1000])
def test_confidence_of_cells_that_are_all_right_says_how_few_they_are(n_cells, scale):
    """Of n cells none is wrong: 1 in n + 2 may be, however large the logits are."""
    labels = np.arange(n_cells) % 2
    logits = 2 * scale * np.eye(2)[labels]
    found = softmax(logits, fit_temperature(logits, labels)).max(axis=1)
    assert found == pytest.approx((n_cells + 1) / (n_cells + 2), rel=1e-4)


def test_confidence_of_cells_that_are_all_wrong_is_that_of_a_guess():
    logits = np.array([[2.0, 0], [0, 2.0]])
    temperature = fit_temperature(logits, np.array([1, 0]))
    assert softmax(logits, temperature).max(axis=1) == pytest.approx([0.5, 0.5], abs=1e-3)


def test_fit_temperature_takes_a_model_of_one_type():
    assert np.isfinite(fit_temperature(np.ones((3, 1)), np.zeros(3, dtype=int)))


def test_fit_temperature_improves_the_calibration_error():
    logits, labels = cells(3.0)

    def error(temperature):
        probabilities = softmax(logits, temperature)
        correct = probabilities.argmax(axis=1) == labels
        return expected_calibration_error(reliability(probabilities.max(axis=1), correct))

    assert error(fit_temperature(logits, labels)) < 0.03
    assert error(1.0) > 0.1


def test_change_temperature_undoes_a_calibration():
    logits = np.random.default_rng(0).normal(size=(20, 5))
    calibrated = softmax(logits, 1.7)
    kept = calibrated.copy()
    np.testing.assert_allclose(change_temperature(calibrated, 1.7, 1), softmax(logits, 1))
    np.testing.assert_array_equal(calibrated, kept)


def test_change_temperature_keeps_a_zero():
    found = change_temperature(np.array([[0.9, 0.1, 0]]), old=1, new=2)
    assert found[0] == pytest.approx([0.75, 0.25, 0])


def test_reliability_of_four_cells():
    """A bin holds its upper edge: 0.5 is in (0.4, 0.5]."""
    bins = reliability(np.array([0.5, 0.52, 0.55, 0.58]), np.array([1, 0, 1, 1], dtype=bool))
    assert bins == [
        ConfidenceBin(confidence=0.5, accuracy=1.0, n=1),
        ConfidenceBin(confidence=pytest.approx(0.55), accuracy=pytest.approx(2 / 3), n=3),
    ]
    assert expected_calibration_error(bins) == pytest.approx(0.25 * 0.5 + 0.75 * (2 / 3 - 0.55))


def test_reliability_counts_every_cell_once_and_skips_empty_bins():
    confidence = np.array([0, 0.05, 0.1, 1, np.float32(1) + np.float32(1e-7)])
    bins = reliability(confidence, np.ones(5, dtype=bool))
    assert [one.n for one in bins] == [3, 2]


def test_reliability_refuses_logits():
    with pytest.raises(ValueError, match=r"confidence runs from 0.2 to 3.5"):
        reliability(np.array([0.2, 3.5]), np.array([True, False]))


def test_novelty_threshold_of_ten_cells():
    """Of 0.1, 0.2 .. 1.0, one in ten may be refused: only 1.0 lies above 0.9 or what follows it."""
    scores = np.arange(1, 11) / 10
    assert (scores > novelty_threshold(scores, 0.1)).sum() <= 1
    assert novelty_threshold(scores, 0.2) == pytest.approx(0.9)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("n_cells", [1, 2, 7, 20, 100, 137])
def test_novelty_threshold_never_refuses_more_than_its_rate(rate, n_cells):
    rng = np.random.default_rng(n_cells)
    for scores in (rng.random(n_cells), rng.integers(3, size=n_cells) / 2):
        for typed in (scores, scores.astype(np.float32)):
            assert (typed > novelty_threshold(typed, rate)).mean() <= rate


def test_novelty_threshold_is_not_needlessly_high():
    scores = np.random.default_rng(0).random(1000)
    assert (scores > novelty_threshold(scores, 0.05)).sum() in {49, 50}


def test_errors_name_what_is_wrong():
    logits, labels = np.zeros((2, 3)), np.array([0, 2])
    with pytest.raises(ValueError, match="2 rows of logits and 1 labels"):
        fit_temperature(logits, labels[:1])
    with pytest.raises(ValueError, match="0 rows of logits and 0 labels"):
        fit_temperature(logits[:0], labels[:0])
    with pytest.raises(ValueError, match="NaN or infinity"):
        fit_temperature(np.full((2, 3), np.nan), labels)
    with pytest.raises(ValueError, match="labels run from 0 to 3"):
        fit_temperature(logits, np.array([0, 3]))
    with pytest.raises(ValueError, match="temperature is 0"):
        softmax(logits, 0)
    with pytest.raises(ValueError, match="no validation cell"):
        novelty_threshold(np.array([]), 0.05)
