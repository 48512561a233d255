"""Protocols of the benchmark: which cells a method learns from, and which it is asked about.

All draws depend on the seed and the cells alone, so that every method gets the same tasks. Of the
protocols that change the training cells, the query is the first fold of `within_dataset`: their
scores can be set beside its.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from scbert.cells.folds import deal_cells, split_batch_folds
from scbert.config import Protocols
from scbert.config.benchmark import TRANSFERRED

ALL = "all"  # the level of a protocol that has only one
FEWEST_TYPES = 2
BALANCED_QUERY = 100  # cells of each type at most, as the paper's
N_IMBALANCED = 4  # types, as the paper's
SMALLEST = 3  # cells of a type that imbalance makes rare


@dataclass(frozen=True)
class LabelledSet:
    """The cells of a dataset: ids, types and batches, each of shape (cells,)."""

    cells: np.ndarray
    cell_types: np.ndarray
    batches: np.ndarray

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def n_batches(self) -> int:
        """How many batches there are; one if they are not known."""
        return len(set(self.batches))


@dataclass(frozen=True)
class BenchmarkTask:
    """Cells to learn from and cells to name: positions in a `LabelledSet`.

    `taught` are the types that the method is told of the cells it learns from, which noise may have
    changed; `fold` names what is asked about: a number, a batch, or a type that was left out;
    `left_out` are the cells that are not learned from because the other dataset has them, too.
    """

    protocol: str
    level: str
    fold: str
    learned: np.ndarray
    taught: np.ndarray
    query: np.ndarray
    left_out: int = 0

    @property
    def name(self) -> str:
        """Return a name for files: its fold is a number among those of its protocol."""
        return f"{self.protocol}-{self.level}"


@dataclass(frozen=True)
class Skipped:
    """A protocol, level or fold that a dataset does not allow, and why."""

    protocol: str
    level: str
    reason: str


Found = Iterator[BenchmarkTask | Skipped]


def make_tasks(cells: LabelledSet, settings: Protocols, seed: int) -> list[BenchmarkTask | Skipped]:
    """Make the tasks of a dataset by all protocols that were asked for.

    Types of too few cells take no part.
    """
    rows = frequent(cells, settings)
    kept = _some(cells, rows)
    found: list[BenchmarkTask | Skipped] = []
    for protocol in settings.used:
        found += PROTOCOLS[protocol](kept, settings, seed)
    checked = [
        _checked(task, settings) if isinstance(task, BenchmarkTask) else task for task in found
    ]
    return [_of_all(task, rows) if isinstance(task, BenchmarkTask) else task for task in checked]


def transfer(
    learned: LabelledSet, query: LabelledSet, settings: Protocols, shared: Sequence[int] = ()
) -> BenchmarkTask:
    """Learn from one dataset, and name the cells of another, whose positions follow.

    Nothing is drawn here; seeds differ in what methods draw. Types of too few cells are not
    learned.

    Parameters
    ----------
    shared
        Positions of the cells of the first that the second has, too: these are not learned from.

    Raises
    ------
    ValueError
        If the query has no type that is learned.
    """
    own = np.setdiff1d(np.arange(len(learned)), np.asarray(shared, dtype=int))
    rows = own[frequent(_some(learned, own), settings)]
    taught, wanted = set(learned.cell_types[rows]), set(query.cell_types)
    if not taught & wanted:
        raise ValueError(
            f"no type of the query is learned. Learned are {', '.join(sorted(taught))}; asked "
            f"about are {', '.join(sorted(wanted))}. Give both files the same names: by a common "
            "label_key, or by a table of them in the column types of the table of datasets."
        )
    asked = len(learned) + np.arange(len(query))
    return BenchmarkTask(TRANSFERRED, ALL, ALL, rows, learned.cell_types[rows], asked, len(shared))


def _some(cells: LabelledSet, rows: np.ndarray) -> LabelledSet:
    return LabelledSet(cells.cells[rows], cells.cell_types[rows], cells.batches[rows])


def frequent(cells: LabelledSet, settings: Protocols) -> np.ndarray:
    """Return the positions of the cells whose type has cells enough."""
    _, number, sizes = np.unique(cells.cell_types, return_inverse=True, return_counts=True)
    return np.flatnonzero(sizes[number] >= settings.min_cells_per_type)


def _of_all(task: BenchmarkTask, rows: np.ndarray) -> BenchmarkTask:
    """Return a task on some rows of a dataset by their positions among all."""
    return replace(task, learned=rows[task.learned], query=rows[task.query])


def _within_dataset(cells: LabelledSet, settings: Protocols, seed: int) -> Found:
    fold = _folds(cells, settings, seed)
    for number in range(settings.folds):
        learned, query = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        yield _task("within_dataset", ALL, str(number), cells, learned, query)


def _across_batches(cells: LabelledSet, settings: Protocols, seed: int) -> Found:
    if cells.n_batches < FEWEST_TYPES:
        yield Skipped("across_batches", ALL, "the dataset names no batches, or has one only")
        return
    fold = cells.batches.astype(str)
    if cells.n_batches > settings.folds:
        rng = np.random.default_rng(seed)
        fold = split_batch_folds(cells.batches, settings.folds, rng).astype(str)
    for name in np.unique(fold):
        learned, query = np.flatnonzero(fold != name), np.flatnonzero(fold == name)
        yield _task("across_batches", ALL, str(name), cells, learned, query)


def _few_labels(cells: LabelledSet, settings: Protocols, seed: int) -> Found:
    learned, query = _first_fold(cells, settings, seed)
    rng = np.random.default_rng([seed, 1])
    order = [
        rng.permutation(learned[cells.cell_types[learned] == name])
        for name in np.unique(cells.cell_types[learned])
    ]
    for n in settings.cells_per_type:
        some = np.sort(np.concatenate([of_type[:n] for of_type in order]))
        yield _task("few_labels", f"{n}_per_type", "0", cells, some, query)
    for share in settings.shares_of_cells:
        some = np.sort(
            np.concatenate([of_type[: max(1, round(share * len(of_type)))] for of_type in order])
        )
        yield _task("few_labels", f"{100 * share:g}_percent", "0", cells, some, query)


def _class_imbalance(cells: LabelledSet, settings: Protocols, seed: int) -> Found:
    """Two common types and two rare ones, drawn among the eight largest.

    Of each at most as many are asked about, fewer where the fold has no more.
    """
    learned, query = _first_fold(cells, settings, seed)
    rng = np.random.default_rng([seed, 2])
    largest = pd.Series(cells.cell_types[learned]).value_counts()
    largest = largest[largest >= SMALLEST * min(settings.imbalance, default=1)]
    if len(largest) < N_IMBALANCED:
        reason = f"{len(largest)} types have cells enough, and four are needed"
        yield Skipped("class_imbalance", ALL, reason)
        return
    chosen = rng.choice(np.sort(largest.index[:8].to_numpy(dtype=str)), N_IMBALANCED, replace=False)
    asked = _some_of_each(query, cells.cell_types, dict.fromkeys(chosen, BALANCED_QUERY), rng)
    common = int(min(largest[name] for name in chosen))
    for ratio in settings.imbalance:
        rare = common // ratio
        if rare < SMALLEST:
            reason = f"{common} cells of a common type leave {rare} of a rare one, and {SMALLEST} "
            yield Skipped("class_imbalance", f"{ratio}_to_1", reason + "are needed")
            continue
        sizes = dict(zip(chosen, (common, rare, common, rare), strict=True))
        some = _some_of_each(learned, cells.cell_types, sizes, rng)
        yield _task("class_imbalance", f"{ratio}_to_1", "0", cells, some, asked)


def _new_type(cells: LabelledSet, settings: Protocols, seed: int) -> Found:
    learned, query = _first_fold(cells, settings, seed)
    asked = pd.Series(cells.cell_types[query]).value_counts()
    for name in asked.index[: settings.new_types]:
        rest = learned[cells.cell_types[learned] != name]
        yield _task("new_type", ALL, str(name), cells, rest, query)


def _label_noise(cells: LabelledSet, settings: Protocols, seed: int) -> Found:
    learned, query = _first_fold(cells, settings, seed)
    names = np.unique(cells.cell_types[learned])
    for share in settings.noise:
        rng = np.random.default_rng([seed, 3])
        wrong = rng.permutation(len(learned))[: round(share * len(learned))]
        taught = cells.cell_types[learned].copy()
        position = np.searchsorted(names, taught[wrong])
        moved = position + rng.integers(1, len(names), len(wrong))
        taught[wrong] = names[moved % len(names)]
        yield BenchmarkTask("label_noise", f"{100 * share:g}_percent", "0", learned, taught, query)


PROTOCOLS: dict[str, Callable[[LabelledSet, Protocols, int], Found]] = {
    "within_dataset": _within_dataset,
    "across_batches": _across_batches,
    "few_labels": _few_labels,
    "class_imbalance": _class_imbalance,
    "new_type": _new_type,
    "label_noise": _label_noise,
}


def _folds(cells: LabelledSet, settings: Protocols, seed: int) -> np.ndarray:
    return deal_cells(cells.cell_types, settings.folds, np.random.default_rng(seed))


def _first_fold(cells: LabelledSet, settings: Protocols, seed: int) -> tuple[np.ndarray, ...]:
    fold = _folds(cells, settings, seed)
    return np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)


def _task(
    protocol: str,
    level: str,
    fold: str,
    cells: LabelledSet,
    *parts: np.ndarray,
) -> BenchmarkTask:
    learned, query = parts
    return BenchmarkTask(protocol, level, fold, learned, cells.cell_types[learned], query)


def _some_of_each(
    rows: np.ndarray, cell_types: np.ndarray, sizes: dict[str, int], rng: np.random.Generator
) -> np.ndarray:
    """Draw so many cells of each type, or all where there are fewer; sorted."""
    drawn = [rng.permutation(rows[cell_types[rows] == name])[:size] for name, size in sizes.items()]
    return np.sort(np.concatenate(drawn))


def _checked(task: BenchmarkTask, settings: Protocols) -> BenchmarkTask | Skipped:
    """Skip a task that would say nothing: a tiny query, or fewer than two types to learn."""
    types = len(set(task.taught))
    if types < FEWEST_TYPES:
        reason = f"fold {task.fold}: {types} type(s) to learn from, and two are needed"
        return Skipped(task.protocol, task.level, reason)
    if len(task.query) < settings.min_query_cells:
        reason = (
            f"fold {task.fold}: {len(task.query)} cells to ask about, fewer than "
            f"benchmark.protocols.min_query_cells = {settings.min_query_cells}"
        )
        return Skipped(task.protocol, task.level, reason)
    return task
