"""One count of each cell, and the sum that cells were normalised to, from a few of the genes."""

import numpy as np
import pytest
from scipy import sparse

from scbert.cells.quality import cell_sums
from scbert.cells.recover import find_sum, steps_of


def draw_counts(n_cells=120, n_genes=400, seed=0):
    """Counts of some 1,200 per cell, of cells of different depth."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.3, 10.0, n_genes) * rng.uniform(0.5, 2.0, (n_cells, 1))
    return sparse.csr_matrix(rng.poisson(rates).astype(np.float64))


def divided(counts, factors, n_genes):
    """Return the first genes of the cells times a number of each, as float32 logs keep them."""
    logged = (sparse.diags_array(factors) @ counts).tocsr()[:, :n_genes]
    logged.data = np.log1p(logged.data).astype(np.float32).astype(np.float64)
    logged.eliminate_zeros()
    logged.data = np.expm1(logged.data)
    return logged


def test_steps_of_cells_that_a_person_can_check():
    """The second cell has no gene with one count, the third expresses nothing."""
    linear = sparse.csr_matrix([[0.5, 1.5, 2.0], [1.0, 1.5, 2.5], [0, 0, 0]])
    assert steps_of(linear).tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize("total", [1e4, 1e6, 2500.0, 1187.5, 1e4 / 3])
def test_find_sum_finds_the_sum_of_which_steps_are_whole_fractions(total):
    counts = draw_counts()
    linear = divided(counts, total / cell_sums(counts), 100)
    assert find_sum(steps_of(linear), cell_sums(linear)) == pytest.approx(total, rel=1e-5)


def test_find_sum_finds_none_where_each_cell_has_a_factor_of_its_own():
    counts = draw_counts()
    factors = 1 / np.random.default_rng(1).uniform(0.5, 2.0, counts.shape[0])
    linear = divided(counts, factors, 100)
    assert find_sum(steps_of(linear), cell_sums(linear)) is None


@pytest.mark.parametrize("other", [1187.5, 1200, 5000, 2384])
def test_find_sum_finds_none_in_a_mixture(other):
    """Not the common multiple of both sums either: 190,000, 30,000, 10,000 and beyond."""
    counts = draw_counts()
    factors = np.where(np.arange(120) % 2, 1e4, other) / cell_sums(counts)
    linear = divided(counts, factors, 100)
    assert find_sum(steps_of(linear), cell_sums(linear)) is None


def test_find_sum_of_one_cell_is_what_its_genes_add_up_to():
    assert find_sum(np.array([4.0]), np.array([9999.9])) == 1e4
    assert find_sum(np.array([4.0]), np.array([8000.0])) is None


def test_find_sum_finds_none_in_few_cells():
    counts = draw_counts()
    linear = divided(counts, 1e4 / cell_sums(counts), 100)
    assert find_sum(steps_of(linear)[:2], cell_sums(linear)[:2]) is None
