"""The novelty threshold of a model for new batches: its own cells, a batch at a time."""

import numpy as np
import pytest
from scipy import sparse

from scbert.tokens.store import store_in_memory
from scbert.training.left_out_batches import novelty_left_out
from tests.samples import sample_of

N_CELLS = 120
LABEL = np.tile([0, 1, 2], N_CELLS // 3)


def cells(shifted):
    """Three types with ten markers each; the shifted cells express all of these."""
    rng = np.random.default_rng(0)
    chance = np.full((N_CELLS, 60), 0.2)
    for number in range(3):
        chance[np.ix_(number == LABEL, range(10 * number, 10 * number + 10))] = 0.9
    chance[np.ix_(shifted, range(30))] = 0.9
    bins = (rng.random(chance.shape) < chance) * rng.integers(1, 4, chance.shape)
    names = [f"c{number}" for number in range(N_CELLS)]
    return store_in_memory(sample_of("s", names, sparse.csr_matrix(bins), np.arange(60), 0))


def scores(batch, label=LABEL, shifted=None):
    shifted = np.zeros(N_CELLS, dtype=bool) if shifted is None else shifted
    return novelty_left_out(cells(shifted), np.arange(N_CELLS), label, batch, seed=0)


@pytest.mark.parametrize("batch", [None, np.repeat("one", N_CELLS)])
def test_one_batch_says_nothing(batch):
    assert scores(batch) is None


@pytest.mark.parametrize("n_batches", [2, 3, 8])
def test_each_cell_is_scored_once_by_the_other_batches(n_batches):
    found = scores(np.arange(N_CELLS).astype(str) if n_batches == 8 else numbered(n_batches))
    assert len(found.scores) == N_CELLS
    assert (found.label == LABEL).all()


def numbered(n_batches):
    return (np.arange(N_CELLS) // 3 % n_batches).astype(str)


def test_batches_that_differ_raise_the_threshold():
    """Each batch is as far from the other as a new one would be from both."""
    batch = numbered(2)
    others = np.random.default_rng(0).permutation(batch)
    by_batch, at_random = (scores(of, shifted=batch == "1") for of in (batch, others))
    assert by_batch.threshold(0.05) > 1.1 * at_random.threshold(0.05)


def test_cells_of_a_type_that_no_other_batch_has_are_left_out():
    batch = np.where(LABEL == 2, "b", numbered(2))
    found = scores(batch)
    assert 2 not in found.label
    assert set(found.label) == {0, 1}


def test_batches_without_a_common_type_say_nothing():
    assert scores(np.array(["a", "b", "c"])[LABEL]) is None
