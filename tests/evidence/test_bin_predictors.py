import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import log_loss

from scbert.config import Evaluate
from scbert.evidence.bin_predictors import (
    cell_part,
    gene_part,
    guess_by_counts,
    guess_by_sum,
    skill,
)


def softmax(logits):
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def test_guess_by_counts_of_three_genes():
    """Bins 1 and 2; the guesses are 2, 1 (a tie) and, from the corpus, 2.

    Bin 2 has the probabilities (3 + 1) / (4 + 2), (1 + 1) / (2 + 2) and (7 + 1) / (8 + 2).
    """
    counts = np.array([[1, 3], [1, 1], [0, 0]])
    found = guess_by_counts(counts, np.array([2, 2, 2]), fallback_T=np.array([1, 7]))
    assert found.right_N.tolist() == [True, False, True]
    assert found.loss_N == pytest.approx(-np.log([4 / 6, 2 / 4, 8 / 10]))


def test_guess_by_counts_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    counts, targets = rng.integers(20, size=(200, 5)), rng.integers(1, 6, size=200)
    probabilities = (counts + 1) / (counts + 1).sum(axis=1, keepdims=True)
    found = guess_by_counts(counts, targets, np.ones(5))
    expected = log_loss(targets, probabilities, labels=range(1, 6))
    assert found.loss_N.mean() == pytest.approx(expected)
    assert found.probability_NT == pytest.approx(probabilities)
    typed = guess_by_counts(counts.astype(np.uint32), targets.astype(np.uint8), np.ones(5))
    assert typed.loss_N == pytest.approx(found.loss_N)


def test_guess_by_counts_without_any_count_is_uniform():
    found = guess_by_counts(np.zeros((2, 5)), np.array([1, 5]), np.zeros(5))
    assert found.loss_N == pytest.approx(np.log([5, 5]))
    assert found.right_N.tolist() == [True, False]


@pytest.mark.parametrize("targets", [[], [0, 1], [6]])
def test_guesses_refuse_what_is_not_a_bin(targets):
    counts = np.ones((len(targets), 5))
    with pytest.raises(ValueError, match="must lie between 1 and 5"):
        guess_by_counts(counts, np.array(targets, dtype=int), np.ones(5))
    with pytest.raises(ValueError, match="must lie between 1 and 5"):
        guess_by_sum(counts, counts, np.array(targets, dtype=int))


def test_gene_part_is_smoothed_towards_all_genes():
    """Two bins: all genes together (3 + 1) : (5 + 1); a gene never seen is like all."""
    found = np.exp(gene_part(np.array([[3, 1], [0, 4], [0, 0]])))
    assert found[0] == pytest.approx([(3 + 0.8) / 6, (1 + 1.2) / 6])
    assert found[2] == pytest.approx([0.4, 0.6])
    assert found.sum(axis=1) == pytest.approx([1, 1, 1])


def test_cell_part_is_the_maximum_of_its_likelihood():
    """Against scipy's optimiser, for a deep, a shallow and an empty cell."""
    rng = np.random.default_rng(0)
    genes = np.log(rng.dirichlet(np.ones(4), size=60))
    cell = np.array([0] * 40 + [1] * 20)
    bins = np.array([4] * 30 + [3] * 10 + [1] * 19 + [2])
    found = cell_part(genes, bins, cell, n_cells=3)

    def minus_posterior(part, number):
        own = cell == number
        p = softmax(genes[own] + part)
        return -np.log(p[np.arange(own.sum()), bins[own] - 1]).sum() + part @ part / 2

    for number in range(3):
        best = minimize(minus_posterior, np.zeros(4), args=(number,), tol=1e-10)
        assert found[number] == pytest.approx(best.x, abs=1e-4)
    assert not found[2].any()


def test_the_sum_of_parts_beats_either_mode_where_cells_and_genes_both_matter():
    """Bins drawn from an additive model: depth of the cell plus level of the gene."""
    rng = np.random.default_rng(1)
    depth, level = rng.normal(0, 1.5, 40), rng.normal(0, 1.5, 100)
    weights = np.arange(5)
    logits = (depth[:, None, None] + level[None, :, None]) * weights - weights**2 / 2
    bins = 1 + (rng.random((40, 100, 1)) > softmax(logits).cumsum(axis=2)).sum(axis=2)
    train, tested = bins[:30], bins[30:]
    counts = np.stack([(train == b).sum(axis=0) for b in range(1, 6)], axis=1)
    visible = np.arange(100) < 50
    cell, gene = np.nonzero(np.broadcast_to(visible, tested.shape))
    part = cell_part(gene_part(counts)[gene], tested[cell, gene], cell, 10)
    asked_cell, asked_gene = np.nonzero(np.broadcast_to(~visible, tested.shape))
    targets = tested[asked_cell, asked_gene]
    in_cell = np.stack([(tested[:, visible] == b).sum(axis=1) for b in range(1, 6)], axis=1)
    everywhere = counts.sum(axis=0)
    of_sum = guess_by_sum(gene_part(counts)[asked_gene], part[asked_cell], targets)
    for rival in (in_cell[asked_cell], counts[asked_gene]):
        alone = guess_by_counts(rival, targets, everywhere)
        assert of_sum.loss_N.mean() < 0.9 * alone.loss_N.mean()
        assert of_sum.right_N.mean() > alone.right_N.mean()


def resampling(samples):
    return Evaluate(bootstrap_samples=samples, confidence_level=0.95, seed=0)


def test_skill_and_its_interval():
    """A loss of half the rival's in every cell is a skill of 0.5 in every resample."""
    rival = np.array([1.0, 2.0, 3.0])
    exact = skill(rival / 2, rival, resampling(100))
    assert vars(exact) == pytest.approx({"mean": 0.5, "low": 0.5, "high": 0.5})
    loss = np.random.default_rng(0).uniform(0.5, 1.0, 200)
    found = skill(loss, np.ones(200), resampling(2000))
    assert found.mean == pytest.approx(1 - loss.mean())
    margin = 1.96 * loss.std() / np.sqrt(200)  # the interval of a mean
    assert found.low == pytest.approx(found.mean - margin, abs=0.15 * margin)
    assert found.high == pytest.approx(found.mean + margin, abs=0.15 * margin)
    assert found == skill(loss, np.ones(200), resampling(2000))
