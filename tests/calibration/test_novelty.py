import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf

from scbert.calibration.novelty import SCORES, CellOutputs, LabelledOutputs, fit_novelty, novelty


def outputs(n_cells=60, n_types=3, seed=0):
    """Types around centres of their own; the logits are noisy."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_cells) % n_types
    logits = 4 * np.eye(n_types)[label] + rng.normal(size=(n_cells, n_types))
    positions = 3 * np.eye(n_types, 4)[label] + rng.normal(size=(n_cells, 4))
    return LabelledOutputs(logits.astype(np.float32), positions.astype(np.float32), label)


def cells_at(*positions):
    """Cells of which only their places matter."""
    return CellOutputs(np.zeros((len(positions), 2)), np.array(positions))


def score(name, cells, temperature=1.0, training=None):
    return novelty(cells, fit_novelty(training or outputs(), temperature, name))


def test_max_probability_and_energy_of_one_cell():
    """Logits ln 3 and 0: probabilities 3/4 and 1/4; energy -ln(3 + 1)."""
    cell = CellOutputs(np.array([[np.log(3), 0.0]]), np.zeros((1, 2)))
    for name, expected in (("max_probability", 0.25), ("energy", -np.log(4))):
        fitted = {"novelty_score": name, "temperature": 1.0}
        assert novelty(cell, fitted) == pytest.approx([expected])


def test_energy_scales_with_the_temperature():
    cells = outputs()
    assert score("energy", cells, 2.0) == pytest.approx(
        -2 * logsumexp(cells.logits.astype(float) / 2, axis=1)
    )


def test_distance_in_units_of_the_covariance():
    """Means (0, 0) and (10, 0), standard deviations 2 and 1: (4, 0) is at 2, (0, 3) at 3."""
    fitted = {
        "novelty_score": "expression_distance",
        "type_positions": [[0.0, 0.0], [10.0, 0.0]],
        "position_cholesky": [[2.0, 0.0], [0.0, 1.0]],
    }
    cells = cells_at([4.0, 0.0], [0.0, 3.0], [10.0, 0.0])
    assert novelty(cells, fitted) == pytest.approx([2, 3, 0])


def test_distance_is_the_mahalanobis_distance_of_ledoit_and_wolf():
    training, cells = outputs(), outputs(seed=2)
    means = np.stack([training.positions[training.label == c].mean(axis=0) for c in range(3)])
    covariance = LedoitWolf(assume_centered=True).fit(training.positions - means[training.label])
    inverse = np.linalg.inv(covariance.covariance_)
    expected = cdist(cells.positions, means, "mahalanobis", VI=inverse).min(axis=1)
    assert score("expression_distance", cells, training=training) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("name", SCORES)
def test_novelty_is_higher_for_cells_like_none(name):
    """All logits low and the place opposite to every centre."""
    known = score(name, outputs(seed=3))
    strange = CellOutputs(np.full((4, 3), -3.0), np.full((4, 4), -6.0))
    assert score(name, strange).min() > np.quantile(known, 0.95)


@pytest.mark.parametrize("name", SCORES)
def test_novelty_of_a_cell_does_not_depend_on_other_cells(name):
    cells = outputs(seed=4)
    assert score(name, cells.of(np.array([7]))) == pytest.approx(score(name, cells)[7:8])


@pytest.mark.parametrize("name", SCORES)
def test_fit_novelty_survives_json_and_keeps_only_what_is_needed(name):
    cells, fitted = outputs(), fit_novelty(outputs(), 1.5, name)
    read = json.loads(json.dumps(fitted, allow_nan=False))
    expected = novelty(cells, fitted)
    assert novelty(cells, read).tolist() == expected.tolist()
    assert ("type_positions" in fitted) == (name == "expression_distance")


def test_without_type_forgets_a_column_and_its_cells():
    found = outputs(n_cells=6).without_type(1)
    assert found.label.tolist() == [0, 1, 0, 1]
    assert found.logits.shape == (4, 2)
    assert (found.logits[:, 1] == outputs(n_cells=6).logits[[0, 2, 3, 5], 2]).all()


def test_novelty_refuses_a_score_it_does_not_know():
    message = "'magic'.*max_probability, energy, expression_distance.*fine-tune it again"
    with pytest.raises(ValueError, match=message):
        novelty(cells_at([0.0]), {"novelty_score": "magic"})


def test_distance_of_positions_that_are_all_alike_within_their_class():
    """Cells with the same tokens: no variance, but still a distance."""
    positions = np.repeat(np.eye(3, 8, dtype=np.float32), 4, axis=0)
    label = np.repeat(range(3), 4)
    known = LabelledOutputs(np.eye(3)[label], positions, label)
    fitted = fit_novelty(known, temperature=1.0, score="expression_distance")
    found = novelty(cells_at(positions[0], positions[0] + np.float32(0.1)), fitted)
    assert np.isfinite(found).all()
    assert found[1] > found[0]
