"""The combiner: weights and temperatures by which experts answer as one."""

import numpy as np
import pytest
from scipy.special import log_softmax

from scbert.experts.combiner import (
    LEAST_LOGIT,
    Share,
    agreement,
    calibrated,
    combine,
    fit_shares,
)


def draw(strength, seed, n_cells=600, n_types=3):
    """Logits that know the true type as well as `strength` says, and the types."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_cells) % n_types
    return strength * np.eye(n_types)[label] + rng.normal(size=(n_cells, n_types)), label


def test_combine_is_the_weighted_mean_of_calibrated_log_probabilities():
    one, two = np.array([[2.0, 0.0]]), np.array([[0.0, 6.0]])
    shares = {"one": Share(0.25, 1.0), "two": Share(0.75, 3.0)}
    expected = 0.25 * log_softmax(one, axis=1) + 0.75 * log_softmax(two / 3, axis=1)
    assert np.abs(combine({"one": one, "two": two}, shares) - expected).max() < 1e-12


def test_combine_does_not_look_at_experts_without_weight():
    one = np.array([[2.0, 0.0]])
    shares = {"one": Share(1.0, 1.0), "two": Share(0.0, 1.0)}
    alone = combine({"one": one}, shares)
    assert np.array_equal(alone, combine({"one": one, "two": np.full((1, 2), np.nan)}, shares))


def test_a_type_that_an_expert_does_not_know_is_no_proof():
    """Minus infinity would silence all the others."""
    found = calibrated(np.array([[3.0, 0.0, -np.inf]]), 1.0)
    assert np.isfinite(found).all()
    assert found[0, 2] - found[0, 0] == pytest.approx(LEAST_LOGIT)


def test_weights_are_not_negative_and_add_up_to_one():
    label = draw(0, 0)[1]
    logits = {str(strength): draw(strength, strength)[0] for strength in (0, 1, 2, 4)}
    weights = [share.weight for share in fit_shares(logits, label).values()]
    assert min(weights) >= 0
    assert sum(weights) == pytest.approx(1)


def test_a_useless_expert_gets_less_weight_than_the_others():
    good, label = draw(3, 1)
    useless, _ = draw(0, 2)
    also, _ = draw(3, 3)
    shares = fit_shares({"good": good, "useless": useless, "also": also}, label)
    assert shares["useless"].weight < 0.2
    assert min(shares["good"].weight, shares["also"].weight) > 0.4


def test_an_expert_that_errs_where_the_other_does_and_more_has_no_weight():
    good, label = draw(2, 1)
    worse = good + 4 * (good - 2 * np.eye(3)[label])
    shares = fit_shares({"one": good, "two": good, "three": good, "worse": worse}, label)
    assert shares["worse"].weight == 0
    assert shares["one"].weight == pytest.approx(1 / 3, abs=1e-3)


def test_equal_experts_get_equal_weights_whatever_their_scale():
    logits, label = draw(2, 1)
    shares = fit_shares({"one": logits, "two": logits, "three": 5 * logits}, label)
    for share in shares.values():
        assert share.weight == pytest.approx(1 / 3, abs=1e-3)
    assert shares["three"].temperature == pytest.approx(5 * shares["one"].temperature, rel=1e-2)


def test_few_cells_do_not_decide_between_almost_equals():
    """Two experts of the same strength and six cells: neither is left out."""
    one, label = draw(3, 1, n_cells=6)
    two, _ = draw(3, 2, n_cells=6)
    assert min(share.weight for share in fit_shares({"one": one, "two": two}, label).values()) > 0.2


def test_together_they_are_better_than_each():
    """Errors that do not go together cancel; what is scored was not fitted."""
    label = draw(0, 0)[1]
    given = {name: draw(1.5, seed)[0] for name, seed in (("one", 1), ("two", 2), ("three", 3))}
    fit, new = np.arange(300), np.arange(300, 600)
    shares = fit_shares({name: of[fit] for name, of in given.items()}, label[fit])
    together = combine({name: of[new] for name, of in given.items()}, shares)
    alone = [(of[new].argmax(axis=1) == label[new]).mean() for of in given.values()]
    assert (together.argmax(axis=1) == label[new]).mean() > max(alone) + 0.05


def test_one_expert_has_all_the_weight_and_its_temperature():
    logits, label = draw(2, 1)
    (share,) = fit_shares({"one": 4 * logits}, label).values()
    assert share.weight == 1
    assert share.temperature == pytest.approx(
        4 * fit_shares({"one": logits}, label)["one"].temperature, rel=1e-2
    )


def test_a_logit_that_is_not_a_number_is_refused():
    logits, label = draw(2, 1)
    logits[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        fit_shares({"one": logits}, label)


def test_agreement_is_the_share_of_experts_that_say_what_is_called():
    one, two = np.array([[1, 0], [1, 0]]), np.array([[0, 1], [1, 0]])
    assert agreement({"one": one, "two": two}, np.array([0, 0])).tolist() == [0.5, 1.0]
