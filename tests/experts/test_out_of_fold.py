"""Out-of-fold answers: of cells that an expert has not learned from."""

import numpy as np
import pytest

from scbert.experts.out_of_fold import make_folds, out_of_fold


def means(x):
    """An expert that knows the mean of each type and calls the nearest."""

    def fit(rows, number):
        centre = np.array([x[rows][number == one].mean() for one in range(number.max() + 1)])
        return {"means": lambda asked: -np.abs(x[asked, None] - centre)}

    return fit


@pytest.fixture
def cells():
    """Three types at 0, 10 and 20, each in four folds."""
    rng = np.random.default_rng(0)
    label, fold = np.arange(48) % 3, np.arange(48) // 3 % 4
    return 10.0 * label + rng.normal(size=48), label, fold


@pytest.mark.parametrize("n_batches", [3, 5, 9])
def test_whole_batches_make_folds(n_batches):
    rng = np.random.default_rng(0)
    batch = np.array([f"donor {n}" for n in rng.integers(0, n_batches, 200)])
    fold = make_folds(np.zeros(200, dtype=int), batch, seed=0)
    assert len(set(fold.tolist())) == min(n_batches, 5)
    assert all(len(set(fold[batch == one].tolist())) == 1 for one in set(batch))


def test_several_small_batches_share_a_fold_so_that_folds_are_of_like_size():
    """100 cells, and five times 20: the small ones do not make the large fold larger."""
    sizes = [100, 20, 20, 20, 20, 20, 20, 20, 20]
    batch = np.repeat([f"donor {n}" for n in range(9)], sizes)
    fold = make_folds(np.zeros(len(batch), dtype=int), batch, seed=0)
    assert sorted(np.bincount(fold).tolist()) == [40, 40, 40, 40, 100]


@pytest.mark.parametrize("batch", [None, np.array(["a", "b"] * 25)])
def test_of_fewer_than_three_batches_the_cells_of_each_type_are_dealt(batch):
    label = np.repeat([0, 1], [30, 20])
    fold = make_folds(label, batch, seed=0)
    for type_, number in ((0, 6), (1, 4)):
        assert np.bincount(fold[label == type_], minlength=5).tolist() == [number] * 5
    assert np.array_equal(fold, make_folds(label, batch, seed=0))
    assert not np.array_equal(fold, make_folds(label, batch, seed=1))


def test_each_cell_is_asked_about_after_the_others_taught(cells):
    x, label, fold = cells
    found, judged = out_of_fold(label, fold, means(x))
    assert judged.all()
    assert (found["means"].argmax(axis=1) == label).all()
    for one in range(4):
        centre = [x[(label == type_) & (fold != one)].mean() for type_ in range(3)]
        expected = -np.abs(x[fold == one, None] - centre)
        assert np.abs(found["means"][fold == one] - expected).max() < 1e-5


def test_the_answer_about_a_cell_does_not_know_its_label(cells):
    x, label, fold = cells
    before, _ = out_of_fold(label, fold, means(x))
    changed = label.copy()
    changed[7] = (label[7] + 1) % 3
    after, judged = out_of_fold(changed, fold, means(x))
    own = fold == fold[7]
    assert judged[7]
    assert np.array_equal(before["means"][own], after["means"][own])
    assert not np.array_equal(before["means"][~own], after["means"][~own])


def test_a_type_that_the_other_folds_lack_is_not_judged_and_is_impossible_there(cells):
    x, label, fold = cells
    fold = np.where(label == 1, 2, fold)  # type 1 is in fold 2 alone
    found, judged = out_of_fold(label, fold, means(x))
    assert np.array_equal(judged, label != 1)
    impossible = np.isneginf(found["means"])
    assert impossible[fold == 2, 1].all()
    assert not impossible[fold != 2].any()
    assert not impossible[:, [0, 2]].any()


def test_cells_whose_other_folds_have_a_single_type_are_not_judged():
    x, label = np.arange(6.0), np.array([0, 0, 1, 0, 1, 1])
    fold = np.array([0, 0, 1, 0, 1, 2])
    found, judged = out_of_fold(label, fold, means(x))
    assert judged.tolist() == [False, False, True, False, True, True]
    assert np.isneginf(found["means"][0]).all()


def test_types_that_are_each_in_one_fold_are_refused():
    label = np.array([0, 0, 1, 1, 2, 2])
    with pytest.raises(ValueError, match="no cell type has training cells in two batches"):
        out_of_fold(label, label, means(np.arange(6.0)))
