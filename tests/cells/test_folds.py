from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scbert.cells.folds import (
    NO_FOLD,
    divide,
    divide_without_test,
    fold_parts,
    name_folds,
    split_batch_folds,
    split_folds,
)
from scbert.cells.splits import PARTS, split_batches, split_types

TYPES = np.array(["B"] * 10 + ["T"] * 7 + ["DC"] * 3)
DONORS = np.array(list("abcde") * 4)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def split(toy, config):
    return lambda **values: toy.change(config.split, **values)


def test_split_folds_deals_each_type_out_evenly():
    """10 B, 7 T and 3 dendritic cells in 5 folds: 2 B, 1 or 2 T, at most one of the rare."""
    fold = split_folds(TYPES, 5, rng())
    assert sorted(Counter(fold[:10]).values()) == [2] * 5
    assert sorted(Counter(fold[10:17]).values()) == [1, 1, 1, 2, 2]
    assert sorted(Counter(fold[17:]).values()) == [1, 1, 1]
    assert sorted(Counter(fold).values()) == [4] * 5


def test_split_batch_folds_never_shares_a_batch():
    fold = split_batch_folds(DONORS, 3, rng())
    assert all(len(set(fold[donor == DONORS])) == 1 for donor in np.unique(DONORS))
    assert set(fold) == {0, 1, 2}


@given(
    st.lists(st.integers(3, 20), min_size=2, max_size=4),
    st.integers(2, 5),
    st.sampled_from([0.1, 0.3, 0.8]),
    st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_over_the_folds_each_cell_is_tested_once_and_each_type_learned(sizes, k, fraction, seed):
    cell_type = np.repeat([f"type{number}" for number in range(len(sizes))], sizes)
    fold = split_folds(cell_type, k, rng(seed)).astype(str)
    tested = np.zeros(len(cell_type), dtype=int)
    for name in np.unique(fold):
        part = fold_parts(fold, name, cell_type, None, fraction, rng(seed))
        assert set(part) == set(PARTS)
        assert set(cell_type[part == "train"]) == set(cell_type)
        for one in np.unique(cell_type):  # the last cell of a type is for training
            kept = (cell_type == one) & (part != "test")
            assert (part[kept] == "validation").any() == (kept.sum() > 1)
        tested += part == "test"
    assert (tested == 1).all()


@pytest.mark.parametrize("method", ["holdout", "k_fold", "leave_one_out"])
@pytest.mark.parametrize("by", ["cell", "batch"])
def test_divide_never_tests_a_batch_that_was_learned_from(split, method, by):
    fold = "c" if method == "leave_one_out" else 1
    part = divide(TYPES, DONORS, split(method=method, fold=fold, n_folds=3, validation_by=by))
    assert set(part) == set(PARTS)
    assert not set(DONORS[part == "test"]) & set(DONORS[part != "test"])
    shared = set(DONORS[part == "validation"]) & set(DONORS[part == "train"])
    assert bool(shared) == (by == "cell")


def test_divide_leaves_the_named_batch_out(split):
    part = divide(TYPES, DONORS, split(method="leave_one_out", fold="d"))
    assert set(DONORS[part == "test"]) == {"d"}
    assert (part[DONORS == "d"] == "test").all()


def test_divide_gives_the_cells_of_a_fold_by_number(split):
    chosen = split(method="k_fold", n_folds=4, fold=2)
    part = divide(TYPES, None, chosen)
    assert ((name_folds(TYPES, None, chosen) == "2") == (part == "test")).all()


def test_divide_is_the_plain_holdout_by_default(split):
    values = split()
    fractions = values.test_fraction, values.validation_fraction
    assert (divide(TYPES, None, values) == split_types(TYPES, *fractions, rng(values.seed))).all()
    by_batch = split_batches(DONORS, *fractions, rng(values.seed))
    assert (divide(TYPES, DONORS, values) == by_batch).all()


@pytest.mark.parametrize("method", ["holdout", "k_fold", "leave_one_out"])
def test_the_seed_decides(split, method):
    fold = "a" if method == "leave_one_out" else 0
    chosen = split(method=method, fold=fold, validation_by="cell")
    types = np.repeat(TYPES, 4)
    donors = np.repeat(DONORS, 4)
    first = divide(types, donors, chosen)
    assert (divide(types, donors, chosen) == first).all()
    other = divide(types, donors, split(**chosen.model_dump() | {"seed": 5}))
    assert (other != first).any()


@pytest.mark.parametrize(
    ("values", "batch", "message"),
    [
        ({"method": "leave_one_out", "fold": "a"}, None, r"no batches that could be left out"),
        ({"method": "leave_one_out", "fold": "z"}, DONORS, r"is 'z', but the folds are a, b, c"),
        ({"method": "k_fold", "fold": 5}, None, r"is '5', but the folds are 0, 1, 2, 3, 4"),
        ({"method": "k_fold", "n_folds": 6}, DONORS, r"there are 5 batch\(es\), but 6 folds"),
        ({"method": "k_fold", "n_folds": 21}, None, r"20 cells of types .* are too few for 21"),
        (
            {"method": "leave_one_out", "fold": "a"},
            np.array(["a", "b"] * 10),
            r"beside fold 'a' nothing is left for both .* 10 cells, 1 folds",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused(split, values, batch, message):
    with pytest.raises(ValueError, match=message):
        divide(TYPES, batch, split(**values))


def test_cells_of_a_type_with_two_are_in_no_fold_and_train(split):
    types = TYPES[:-1]
    assert (split_folds(types, 3, rng()) == NO_FOLD).tolist() == (types == "DC").tolist()
    part = divide(types, None, split(method="k_fold", n_folds=3, fold=1))
    assert "test" not in part[types == "DC"]


def test_divide_without_test_divides_the_cells_of_each_type(split):
    """Of 10, 7 and 3 cells a fifth, and one at least, is validation; a type of one cell is not."""
    part = divide_without_test(TYPES, None, split(validation_fraction=0.2))
    assert set(part) == {"train", "validation"}
    assert Counter(TYPES[part == "validation"]) == {"B": 2, "T": 1, "DC": 1}
    alone = np.append(TYPES, "rare")
    assert divide_without_test(alone, None, split())[-1] == "train"


@pytest.mark.parametrize("by", ["batch", "cell"])
def test_divide_without_test_keeps_batches_whole_if_the_settings_say_so(split, by):
    part = divide_without_test(TYPES, DONORS, split(validation_by=by, validation_fraction=0.2))
    shared = set(DONORS[part == "train"]) & set(DONORS[part == "validation"])
    assert bool(shared) == (by == "cell")
    assert (part == "validation").sum() == 4


def test_divide_without_test_is_the_same_again_and_other_with_another_seed(split):
    first, again, other = (
        divide_without_test(TYPES, DONORS, split(validation_by="cell", seed=seed))
        for seed in (1, 1, 2)
    )
    assert first.tolist() == again.tolist() != other.tolist()


def test_divide_without_test_says_that_a_fold_is_not_used(split, caplog):
    divide_without_test(TYPES, DONORS, split(method="leave_one_out", fold="b"))
    assert "split.method leave_one_out is not used: no cell is held out" in caplog.text


def test_divide_without_test_refuses_what_cannot_be_divided(split):
    with pytest.raises(ValueError, match=r"1 batch\(es\) cannot be divided.*validation_by to cell"):
        divide_without_test(TYPES, np.full(20, "a"), split(validation_by="batch"))
    one_each = divide_without_test(np.array(["B", "T"]), None, split())
    assert one_each.tolist() == ["train", "train"]
