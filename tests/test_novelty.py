import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf

from scbert.evidence.novelty import KEPT_SCORES, SCORES, LabelledOutputs, fit_novelty, novelty

ALL = [*SCORES, "combined"]


def outputs(n_cells=60, n_types=3, width=5, seed=0):
    """Types around centres of their own; the logits are noisy."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_cells) % n_types
    vectors = 6 * np.eye(n_types, width)[label] + rng.normal(size=(n_cells, width))
    logits = 4 * np.eye(n_types)[label] + rng.normal(size=(n_cells, n_types))
    return LabelledOutputs(logits.astype(np.float32), vectors.astype(np.float32), label)


def score(name, cells, temperature=1.0, training=None):
    fitted = fit_novelty(training or outputs(), outputs(seed=1), temperature, name)
    return novelty(cells.logits, cells.vectors, fitted)


def test_max_probability_and_energy_of_one_cell():
    """Logits ln 3 and 0: probabilities 3/4 and 1/4; energy -ln(3 + 1)."""
    cell = np.array([[np.log(3), 0.0]])
    for name, expected in (("max_probability", 0.25), ("energy", -np.log(4))):
        fitted = {"novelty_score": name, "temperature": 1.0}
        assert novelty(cell, np.zeros((1, 2)), fitted) == pytest.approx([expected])


def test_energy_scales_with_the_temperature():
    cells = outputs()
    assert score("energy", cells, 2.0) == pytest.approx(
        -2 * logsumexp(cells.logits.astype(float) / 2, axis=1)
    )


def test_distance_in_units_of_the_covariance():
    """Means (0, 0) and (10, 0), standard deviations 2 and 1: (4, 0) is at 2, (0, 3) at 3."""
    fitted = {
        "novelty_score": "distance",
        "class_means": [[0.0, 0.0], [10.0, 0.0]],
        "covariance_cholesky": [[2.0, 0.0], [0.0, 1.0]],
    }
    cells = np.array([[4.0, 0.0], [0.0, 3.0], [10.0, 0.0]])
    assert novelty(np.zeros((3, 2)), cells, fitted) == pytest.approx([2, 3, 0])


def test_cosine_ignores_length_and_takes_zeros_as_far():
    fitted = {"novelty_score": "cosine", "class_means": [[1.0, 0.0], [0.0, 1.0]]}
    cells = np.array([[9.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    assert novelty(np.zeros((3, 2)), cells, fitted) == pytest.approx([0, 1 - 0.5**0.5, 1])


def test_combined_is_the_mean_rank_among_validation_cells():
    """Probability 3/4: novelty 0.25, above one of two validation cells; energy above none."""
    fitted = {
        "novelty_score": "combined",
        "temperature": 1.0,
        "validation_scores": {"max_probability": [0.1, 0.4], "energy": [-1.0, 0.0]},
    }
    cell = np.array([[np.log(3), 0.0]])
    assert novelty(cell, np.zeros((1, 2)), fitted) == pytest.approx([0.25])


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
    strange = LabelledOutputs(np.full((4, 3), -3.0), np.full((4, 5), -6.0), np.zeros(4, dtype=int))
    assert score(name, strange).min() > np.quantile(known, 0.95)


@pytest.mark.parametrize("name", ALL)
def test_novelty_of_a_cell_does_not_depend_on_other_cells(name):
    cells = outputs(seed=4)
    alone = LabelledOutputs(cells.logits[7:8], cells.vectors[7:8], cells.label[7:8])
    assert score(name, alone) == pytest.approx(score(name, cells)[7:8])


@pytest.mark.parametrize("name", ALL)
def test_fit_novelty_survives_json_and_keeps_only_what_is_needed(name):
    cells, fitted = outputs(), fit_novelty(outputs(), outputs(seed=1), 1.5, name)
    read = json.loads(json.dumps(fitted, allow_nan=False))
    expected = novelty(cells.logits, cells.vectors, fitted)
    assert novelty(cells.logits, cells.vectors, read).tolist() == expected.tolist()
    assert ("class_means" in fitted) == (name in {"distance", "cosine", "combined"})
    assert ("covariance_cholesky" in fitted) == (name in {"distance", "combined"})


def test_fit_novelty_keeps_at_most_so_many_validation_scores():
    fitted = fit_novelty(outputs(), outputs(n_cells=3 * KEPT_SCORES), 1.0, "combined")
    for kept in fitted["validation_scores"].values():
        assert len(kept) == KEPT_SCORES
        assert kept == sorted(kept)


def test_without_type_forgets_a_column_and_its_cells():
    found = outputs(n_cells=6).without_type(1)
    assert found.label.tolist() == [0, 1, 0, 1]
    assert found.logits.shape == (4, 2)
    assert (found.logits[:, 1] == outputs(n_cells=6).logits[[0, 2, 3, 5], 2]).all()


def test_novelty_refuses_a_score_it_does_not_know():
    with pytest.raises(ValueError, match=r"novelty score is 'magic'.*max_probability"):
        novelty(np.zeros((1, 2)), np.zeros((1, 2)), {"novelty_score": "magic"})


def test_distance_of_vectors_that_are_all_alike_within_their_class():
    """A network that has learned little, or dead units: no variance, but still a distance."""
    vectors = np.repeat(np.eye(3, 8, dtype=np.float32), 4, axis=0)
    known = LabelledOutputs(np.eye(3)[np.repeat(range(3), 4)], vectors, np.repeat(range(3), 4))
    fitted = fit_novelty(known, known, temperature=1.0, score="distance")
    away = vectors[:1] + np.float32(0.1)
    found = novelty(known.logits[:2], np.concatenate([vectors[:1], away]), fitted)
    assert np.isfinite(found).all()
    assert found[1] > found[0]
