import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf

from scbert.evidence.novelty import SCORES, CellOutputs, LabelledOutputs, fit_novelty, novelty

ALL = [*SCORES, "combined"]


def outputs(n_cells=60, n_types=3, width=5, seed=0):
    """Types around centres of their own; the logits are noisy."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_cells) % n_types
    vectors = 6 * np.eye(n_types, width)[label] + rng.normal(size=(n_cells, width))
    logits = 4 * np.eye(n_types)[label] + rng.normal(size=(n_cells, n_types))
    positions = 3 * np.eye(n_types, 4)[label] + rng.normal(size=(n_cells, 4))
    return LabelledOutputs(
        *(array.astype(np.float32) for array in (logits, vectors, positions)), label
    )


def cells_with(logits=((0.0, 0.0),), vectors=None, positions=None):
    """Cells of which only what matters is given."""
    given = [np.asarray(one) for one in (logits, vectors, positions) if one is not None]
    n_cells = max(len(one) for one in given)
    arrays = (logits, vectors, positions)
    shown = (np.zeros((n_cells, 2)) if one is None else np.asarray(one) for one in arrays)
    return CellOutputs(*shown)


def score(name, cells, temperature=1.0, training=None):
    fitted = fit_novelty(training or outputs(), outputs(seed=1), temperature, name)
    return novelty(cells, fitted)


def test_max_probability_and_energy_of_one_cell():
    """Logits ln 3 and 0: probabilities 3/4 and 1/4; energy -ln(3 + 1)."""
    cell = cells_with([[np.log(3), 0.0]])
    for name, expected in (("max_probability", 0.25), ("energy", -np.log(4))):
        fitted = {"novelty_score": name, "temperature": 1.0}
        assert novelty(cell, fitted) == pytest.approx([expected])


def test_energy_scales_with_the_temperature():
    cells = outputs()
    assert score("energy", cells, 2.0) == pytest.approx(
        -2 * logsumexp(cells.logits.astype(float) / 2, axis=1)
    )


@pytest.mark.parametrize(
    ("name", "place", "means", "cholesky"),
    [
        ("distance", "vectors", "class_means", "covariance_cholesky"),
        ("expression_distance", "positions", "type_positions", "position_cholesky"),
    ],
)
def test_distance_in_units_of_the_covariance(name, place, means, cholesky):
    """Means (0, 0) and (10, 0), standard deviations 2 and 1: (4, 0) is at 2, (0, 3) at 3."""
    fitted = {
        "novelty_score": name,
        means: [[0.0, 0.0], [10.0, 0.0]],
        cholesky: [[2.0, 0.0], [0.0, 1.0]],
    }
    cells = cells_with(logits=None, **{place: [[4.0, 0.0], [0.0, 3.0], [10.0, 0.0]]})
    assert novelty(cells, fitted) == pytest.approx([2, 3, 0])


def test_cosine_ignores_length_and_takes_zeros_as_far():
    fitted = {"novelty_score": "cosine", "class_means": [[1.0, 0.0], [0.0, 1.0]]}
    cells = cells_with(logits=None, vectors=[[9.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    assert novelty(cells, fitted) == pytest.approx([0, 1 - 0.5**0.5, 1])


def test_combined_adds_both_parts_in_units_of_the_validation_cells():
    """Energy -ln 4 is half a unit above its mean; a distance of 3 is two units above its own."""
    fitted = {
        "novelty_score": "combined",
        "temperature": 1.0,
        "type_positions": [[0.0, 0.0]],
        "position_cholesky": [[1.0, 0.0], [0.0, 1.0]],
        "units": {
            "energy": {"mean": -np.log(4) - 1, "std": 2.0},
            "expression_distance": {"mean": 1.0, "std": 1.0},
        },
    }
    cell = cells_with([[np.log(3), 0.0]], positions=[[3.0, 0.0]])
    assert novelty(cell, fitted) == pytest.approx([2.5])


def test_combined_knows_its_units_from_the_validation_cells():
    validation = outputs(seed=1)
    fitted = fit_novelty(outputs(), validation, 1.0, "combined")
    found = novelty(validation, fitted)
    assert found.mean() == pytest.approx(0, abs=1e-6)
    assert set(fitted["units"]) == {"energy", "expression_distance"}


def test_combined_of_one_validation_cell_is_finite():
    cell = outputs().of(np.array([0]))
    assert novelty(cell, fit_novelty(outputs(), cell, 1.0, "combined")) == pytest.approx([0])


def test_combined_as_it_was_made_before_is_refused():
    """Mean ranks among validation cells, of three other scores."""
    fitted = {"novelty_score": "combined", "temperature": 1.0, "validation_scores": {"energy": []}}
    with pytest.raises(ValueError, match=r"'combined', made in a way .* train it again"):
        novelty(cells_with(), fitted)


def test_distance_is_the_mahalanobis_distance_of_ledoit_and_wolf():
    training, cells = outputs(), outputs(seed=2)
    means = np.stack([training.vectors[training.label == c].mean(axis=0) for c in range(3)])
    covariance = LedoitWolf(assume_centered=True).fit(training.vectors - means[training.label])
    inverse = np.linalg.inv(covariance.covariance_)
    expected = cdist(cells.vectors, means, "mahalanobis", VI=inverse).min(axis=1)
    assert score("distance", cells, training=training) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_novelty_is_higher_for_cells_like_none(name):
    """All logits low and the vector opposite to every centre."""
    known = score(name, outputs(seed=3))
    strange = CellOutputs(np.full((4, 3), -3.0), np.full((4, 5), -6.0), np.full((4, 4), -6.0))
    assert score(name, strange).min() > np.quantile(known, 0.95)


@pytest.mark.parametrize("name", ALL)
def test_novelty_of_a_cell_does_not_depend_on_other_cells(name):
    cells = outputs(seed=4)
    assert score(name, cells.of(np.array([7]))) == pytest.approx(score(name, cells)[7:8])


@pytest.mark.parametrize("name", ALL)
def test_fit_novelty_survives_json_and_keeps_only_what_is_needed(name):
    cells, fitted = outputs(), fit_novelty(outputs(), outputs(seed=1), 1.5, name)
    read = json.loads(json.dumps(fitted, allow_nan=False))
    expected = novelty(cells, fitted)
    assert novelty(cells, read).tolist() == expected.tolist()
    assert ("class_means" in fitted) == (name in {"distance", "cosine"})
    assert ("covariance_cholesky" in fitted) == (name == "distance")
    assert ("type_positions" in fitted) == (name in {"expression_distance", "combined"})
    assert ("units" in fitted) == (name == "combined")


def test_without_type_forgets_a_column_and_its_cells():
    found = outputs(n_cells=6).without_type(1)
    assert found.label.tolist() == [0, 1, 0, 1]
    assert found.logits.shape == (4, 2)
    assert (found.logits[:, 1] == outputs(n_cells=6).logits[[0, 2, 3, 5], 2]).all()


def test_novelty_refuses_a_score_it_does_not_know():
    with pytest.raises(ValueError, match=r"novelty score is 'magic'.*max_probability"):
        novelty(cells_with(), {"novelty_score": "magic"})


def test_distance_of_vectors_that_are_all_alike_within_their_class():
    """A network that has learned little, or dead units: no variance, but still a distance."""
    vectors = np.repeat(np.eye(3, 8, dtype=np.float32), 4, axis=0)
    label = np.repeat(range(3), 4)
    known = LabelledOutputs(np.eye(3)[label], vectors, vectors, label)
    fitted = fit_novelty(known, known, temperature=1.0, score="distance")
    away = vectors[:1] + np.float32(0.1)
    found = novelty(cells_with(vectors=np.concatenate([vectors[:1], away])), fitted)
    assert np.isfinite(found).all()
    assert found[1] > found[0]
