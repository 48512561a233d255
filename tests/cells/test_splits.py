import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scbert.cells.splits import PARTS, split_batches, split_types

FRACTIONS = st.tuples(st.floats(0.01, 0.98), st.floats(0.01, 0.98)).filter(lambda f: sum(f) < 1)


def rng(seed=0):
    return np.random.default_rng(seed)


def count(part):
    return {name: int((part == name).sum()) for name in PARTS}


def test_split_cells_takes_a_share_of_each_type():
    """20 cells: 4 for the test, 2 for validation; a rare type of 3: one each."""
    cell_type = np.array(["T cell"] * 20 + ["Mast cell"] * 3)
    part = split_types(cell_type, 0.2, 0.1, rng())
    assert count(part[:20]) == {"train": 14, "validation": 2, "test": 4}
    assert count(part[20:]) == {"train": 1, "validation": 1, "test": 1}


def test_split_cells_does_not_depend_on_the_order_of_the_types():
    cell_type = np.array(["B", "T"] * 30)
    before = cell_type.copy()
    for part in (
        split_types(cell_type, 0.2, 0.2, rng()),
        split_types(cell_type[::-1], 0.2, 0.2, rng()),
    ):
        assert count(part) == {"train": 36, "validation": 12, "test": 12}
    assert (cell_type == before).all()


@given(st.lists(st.integers(3, 40), min_size=1, max_size=5), FRACTIONS, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_split_cells_puts_every_type_into_every_part(sizes, fractions, seed):
    """As many as documented: fewer only where another part would be left without."""
    cell_type = np.repeat([f"type{number}" for number in range(len(sizes))], sizes)
    part = split_types(cell_type, *fractions, rng(seed))
    for number, n in enumerate(sizes):
        found = count(part[cell_type == f"type{number}"])
        n_test, n_validation = (max(1, round(n * fraction)) for fraction in fractions)
        assert min(found.values()) >= 1
        assert sum(found.values()) == n
        if n_test + n_validation < n:
            assert found == {
                "train": n - n_test - n_validation,
                "validation": n_validation,
                "test": n_test,
            }


@given(st.integers(3, 12), FRACTIONS, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_split_batches_never_shares_a_batch(n_batches, fractions, seed):
    batch = rng(seed).permutation(np.repeat([f"donor{number}" for number in range(n_batches)], 4))
    part = split_batches(batch, *fractions, rng(seed))
    of_batch = {name: set(part[batch == name]) for name in np.unique(batch)}
    assert all(len(parts) == 1 for parts in of_batch.values())
    assert set(part) == set(PARTS)


def test_split_batches_takes_a_share_of_the_batches():
    """10 donors of different size: 2 for the test, 3 for validation."""
    batch = np.repeat(np.arange(10).astype(str), np.arange(1, 11))
    part = split_batches(batch, 0.2, 0.3, rng())
    donors = {name: len(set(batch[part == name])) for name in PARTS}
    assert donors == {"train": 5, "validation": 3, "test": 2}


@pytest.mark.parametrize("split", [split_types, split_batches])
def test_the_seed_decides(split):
    groups = np.array(list("abcdefgh") * 12)
    first = split(groups, 0.25, 0.25, rng(1))
    assert (split(groups, 0.25, 0.25, rng(1)) == first).all()
    assert (split(groups, 0.25, 0.25, rng(2)) != first).any()


@pytest.mark.parametrize("n", [1, 2])
def test_of_a_type_with_fewer_than_three_cells_none_is_held_out(n):
    part = split_types(np.array(["T cell"] * 9 + ["Mast cell"] * n), 0.2, 0.2, rng())
    assert set(part[:9]) == set(PARTS)
    assert set(part[9:]) == {"train"}


def test_where_no_type_has_three_cells_nothing_can_be_held_out():
    with pytest.raises(
        ValueError, match=r"no cell type has 3 cells.* largest of 2 has 2.*--no-test"
    ):
        split_types(np.array(["T cell", "B cell"] * 2), 0.2, 0.2, rng())


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_batches_are_refused(n):
    with pytest.raises(ValueError, match=rf"there are {n} batch\(es\).*Leave batch_key empty"):
        split_batches(np.array(["a", "b"][:n] * 9), 0.2, 0.2, rng())
