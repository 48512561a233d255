"""Logit adjustment: by how much rare types are raised."""

import numpy as np
import pytest

from scbert.experts import logit_adjustment
from scbert.experts.fit import fit_experts
from scbert.experts.logit_adjustment import fit_logit_adjustment, rarity
from tests.training.test_committee import drawn, reference


def too_seldom(by, n_cells=2000, seed=0):
    """Logits of two types, one in ten cells rare, in which the rare one is lowered by `by`."""
    rng = np.random.default_rng(seed)
    label = (np.arange(n_cells) % 10 == 0).astype(int)
    share = np.log(np.array([0.9, 0.1]))
    away = rng.normal(size=(n_cells, 1)) + 2 * label[:, np.newaxis] - 1
    logits = np.concatenate([-away, away], axis=1) + share  # the true log odds: 2 x away
    return logits - by * rarity(label), label


def test_rarity_is_the_log_of_the_mean_number_over_its_own():
    found = rarity(np.array([0, 0, 0, 0, 0, 1, 2, 2, 2]))
    assert found == pytest.approx(np.log([3 / 5, 3, 1]))


def test_types_of_equal_size_are_not_raised():
    label = np.arange(90) % 3
    logits = np.random.default_rng(0).normal(size=(90, 3))
    assert fit_logit_adjustment(logits, label, rarity(label)) == 0.0


@pytest.mark.parametrize("by", [0.5, 1.0])
def test_what_was_taken_from_rare_types_is_given_back(by):
    """Nine times as rare, its cells count 9^0.25 times as much: a quarter of a tau more."""
    logits, label = too_seldom(by)
    found = fit_logit_adjustment(logits, label, rarity(label))
    assert found == pytest.approx(by + 0.25, abs=0.15)


def test_rare_types_are_never_lowered():
    logits, label = too_seldom(-2.0)
    assert fit_logit_adjustment(logits, label, rarity(label)) == 0.0


@pytest.mark.parametrize("scale", [0.05, 3])
def test_the_scale_of_the_logits_does_not_matter(scale):
    """As long as no logit is bounded."""
    logits, label = too_seldom(1.0)
    once = fit_logit_adjustment(logits, label, rarity(label))
    again = fit_logit_adjustment(scale * logits, label, rarity(label))
    assert again == pytest.approx(scale * once, rel=1e-2)


def test_a_handful_of_cells_hardly_raises_a_type(monkeypatch):
    """Two rare cells that were missed by little are not proof of much."""
    label = np.array([0] * 20 + [1] * 2)
    logits = np.where(label[:, np.newaxis] == np.array([0, 1]), 1.0, 0.0)
    logits[-1] = [1.0, 0.0]
    found = fit_logit_adjustment(logits, label, rarity(label))
    assert 0 <= found * rarity(label)[1] < 1.0
    monkeypatch.setattr(logit_adjustment, "PULL", 0.0)
    assert found < fit_logit_adjustment(logits, label, rarity(label))


def test_minus_infinity_of_a_type_that_was_not_learned_is_bounded():
    logits, label = too_seldom(1.0)
    logits[:5, 1] = -np.inf
    label[:5] = 0
    assert np.isfinite(fit_logit_adjustment(logits, label, rarity(label)))


def test_an_expert_of_imbalanced_cells_names_rare_ones_after_it():
    """Few cells among many genes: balanced weights alone call the rare type too seldom."""
    rng = np.random.default_rng(1)
    label = np.repeat([0, 1], [90, 6])
    bins, _ = drawn(n_types=2)
    genes = bins.shape[1]

    def cells(types):
        means = np.where(np.arange(genes) % 2 == types[:, np.newaxis], 1.15, 1.0)
        return rng.poisson(means)

    learned = reference(cells(label), label).expression_NV
    expert = fit_experts(["logistic_regression"], learned, label, np.zeros((len(label), 0)), 0)[
        "logistic_regression"
    ]
    asked = np.repeat([0, 1], 200)
    expression = reference(cells(asked), asked).expression_NV
    nothing = np.zeros((400, 0))
    before = expert.logits(expression, nothing)
    raised = expert.raised(0.5 * rarity(label)).logits(expression, nothing)
    assert np.abs(raised - before - 0.5 * rarity(label)).max() < 1e-5
    assert (raised.argmax(axis=1) == 1).sum() > (before.argmax(axis=1) == 1).sum()
