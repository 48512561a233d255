import numpy as np
import pandas as pd
import pytest

from scbert.benchmark.protocols import BenchmarkTask, LabelledSet, Skipped, make_tasks, transfer
from scbert.defaults import load_defaults

DEFAULTS = load_defaults(None, {}).benchmark.protocols
SIZES = {"B": 200, "T": 400, "NK": 100, "DC": 60, "pDC": 30}
LARGE = dict.fromkeys(("B", "T", "NK", "DC"), 400)  # a fold leaves enough to make one 100 to 1


def cells_of(sizes=SIZES, batches=("d1", "d2", "d3")):
    types = np.repeat(list(sizes), list(sizes.values()))
    names = np.array([f"c{i}" for i in range(len(types))])
    batch = np.array([batches[i % len(batches)] for i in range(len(types))])
    return LabelledSet(names, types, batch)


def tasks_of(protocol, cells=None, seed=1, **changed):
    settings = DEFAULTS.model_copy(update={"used": (protocol,), **changed})
    return make_tasks(cells or cells_of(), settings, seed)


ALL = ("within_dataset", "across_batches", "few_labels", "class_imbalance", "new_type")


@pytest.mark.parametrize("protocol", [*ALL, "label_noise"])
def test_no_cell_is_learned_from_and_asked_about(protocol):
    found = tasks_of(protocol, cells_of(LARGE))
    assert found
    for task in found:
        assert isinstance(task, BenchmarkTask)
        assert not set(task.learned) & set(task.query)
        assert len(task.taught) == len(task.learned)


@pytest.mark.parametrize("protocol", [*ALL, "label_noise"])
def test_tasks_follow_from_the_seed(protocol):
    cells = cells_of(LARGE)
    first, again, other = (tasks_of(protocol, cells, seed) for seed in (1, 1, 2))
    for one, same in zip(first, again, strict=True):
        assert np.array_equal(one.learned, same.learned)
        assert np.array_equal(one.taught, same.taught)
        assert np.array_equal(one.query, same.query)
    if protocol != "across_batches":  # three whole batches: nothing is drawn
        assert any(
            not np.array_equal(one.query, drawn.query)
            for one, drawn in zip(first, other, strict=True)
        )


def test_folds_ask_about_each_cell_once():
    found = tasks_of("within_dataset")
    asked = np.concatenate([task.query for task in found])
    assert sorted(asked) == list(range(sum(SIZES.values())))


def test_a_batch_is_learned_from_or_asked_about():
    cells = cells_of()
    for task in tasks_of("across_batches", cells):
        assert not set(cells.batches[task.learned]) & set(cells.batches[task.query])


def test_many_batches_are_dealt_to_few_folds():
    cells = cells_of(batches=tuple(f"d{i}" for i in range(12)))
    assert len(tasks_of("across_batches", cells)) == 5


def test_few_labels_are_so_many_of_each_type_and_grow():
    cells = cells_of()
    found = {task.level: task for task in tasks_of("few_labels", cells)}
    counts = pd.Series(found["10_per_type"].taught).value_counts()
    assert counts.to_dict() == dict.fromkeys(SIZES, 10)
    assert set(found["5_per_type"].learned) < set(found["10_per_type"].learned)
    assert set(found["10_percent"].learned) < set(found["50_percent"].learned)
    assert all(np.array_equal(task.query, found["5_per_type"].query) for task in found.values())


def test_imbalance_makes_two_of_four_types_rare():
    (ten, hundred) = tasks_of("class_imbalance", cells_of(LARGE))
    for task, ratio in ((ten, 10), (hundred, 100)):
        sizes = pd.Series(task.taught).value_counts().to_numpy()
        assert len(sizes) == 4
        assert sizes[0] == sizes[1]
        assert sizes[2] == sizes[3] == sizes[0] // ratio


def test_an_imbalance_that_the_cells_do_not_give_is_skipped():
    ten, hundred = tasks_of("class_imbalance")
    assert isinstance(ten, BenchmarkTask)
    assert hundred == Skipped(
        "class_imbalance",
        "100_to_1",
        "48 cells of a common type leave 0 of a rare one, and 3 are needed",
    )


def test_imbalance_needs_four_types():
    (skipped,) = tasks_of("class_imbalance", cells_of({"B": 100, "T": 100}))
    assert isinstance(skipped, Skipped)
    assert "four are needed" in skipped.reason


def test_a_new_type_is_not_taught():
    cells = cells_of()
    found = tasks_of("new_type", cells)
    assert [task.fold for task in found] == ["T", "B", "NK"]
    for task in found:
        assert task.fold not in task.taught
        assert task.fold in cells.cell_types[task.query]


def test_noise_changes_so_many_labels_and_always_to_another_type():
    cells = cells_of()
    found = {task.level: task for task in tasks_of("label_noise", cells)}
    task = found["20_percent"]
    wrong = task.taught != cells.cell_types[task.learned]
    assert wrong.sum() == round(0.2 * len(task.learned))
    assert set(task.taught) == set(SIZES)


def test_without_batches_none_is_left_out():
    (skipped,) = tasks_of("across_batches", cells_of(batches=("",)))
    assert "no batches" in skipped.reason


def test_a_tiny_query_is_not_asked():
    found = tasks_of("within_dataset", cells_of({"B": 40, "T": 30}))
    assert all("fewer than" in one.reason for one in found)


def test_a_transfer_learns_from_one_dataset_and_asks_about_the_other():
    first, second = cells_of(), cells_of({"B": 10, "T": 20})
    task = transfer(first, second, DEFAULTS)
    assert list(task.learned) == list(range(len(first)))
    assert list(task.query) == list(range(len(first), len(first) + len(second)))
    without = transfer(first, second, DEFAULTS, shared=[0, 7])
    assert set(task.learned) - set(without.learned) == {0, 7}
    assert (len(without.taught), without.left_out) == (len(first) - 2, 2)


def test_a_type_of_few_cells_takes_no_part():
    cells = cells_of(SIZES | {"rare": 9})
    for task in tasks_of("within_dataset", cells):
        assert "rare" not in task.taught
        assert "rare" not in cells.cell_types[task.query]


def test_a_transfer_between_files_without_a_common_type_is_refused():
    query = cells_of({"B cell": 40, "T cell": 40})
    with pytest.raises(ValueError, match="Learned are B, DC, NK, T, pDC; asked about are B cell, "):
        transfer(cells_of(), query, DEFAULTS)
