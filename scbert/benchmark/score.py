"""Scores of the methods on the tasks of a dataset, in long form: a line for each number.

The cells of all folds of a protocol, level and seed are scored together, once: of a rare type a
fold alone has a handful. Of new types each fold asks about the same cells: they count in each, and
such scores have no interval. Cells of a type that was not taught have no right answer, and count
for novelty only. A method that failed in one fold has no score of that protocol, level and seed;
the reason stands in its place. Beside them: the first method minus each other, on the same cells.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from scbert.benchmark.run_method import Run
from scbert.benchmark.task_files import (
    MethodAnswers,
    TaskCells,
    read_answers,
    read_task,
    read_tasks,
)
from scbert.calibration.confidence import expected_calibration_error, reliability
from scbert.calibration.novelty_threshold import novelty_auroc
from scbert.config import Evaluate
from scbert.evidence import metrics
from scbert.evidence.bootstrap import Interval
from scbert.files import read_json

MAIN = "macro_f1"
COMPARED = ("accuracy", "macro_f1")
AGAINST = "answers against the contract"


@dataclass(frozen=True)
class Asked:
    """Where methods were asked: the folds of one protocol and level, of a dataset and seed."""

    dataset: str
    protocol: str
    level: str
    seed: int

    @property
    def place(self) -> tuple[str, str, str, int]:
        """All four, in order."""
        return self.dataset, self.protocol, self.level, self.seed


@dataclass(frozen=True)
class Measured(Asked):
    """A number of a method, or how far the first method is from it; `cells` were scored.

    `low` and `high` are the ends of an interval, NaN where there is none.
    """

    method: str
    metric: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    cells: int | None = None


@dataclass(frozen=True)
class Score(Measured):
    """A score, without a value if the method failed: `exit` is then its code, with a reason."""

    exit: int = 0
    reason: str = ""


COMPARED_COLUMNS = tuple(field.name for field in fields(Measured))
COLUMNS = tuple(field.name for field in fields(Score))
KEYS = COLUMNS[: COLUMNS.index("metric")]
COUNTED = ("learned_cells", "query_cells", "seconds", "cpu_seconds", "peak_mb", "gpu_mb")
COSTS = (*KEYS, "fold", *COUNTED)


@dataclass(frozen=True)
class Fold:
    """A task, what a method answered, and how that went; without answers it failed."""

    task: str
    cells: TaskCells
    answers: MethodAnswers | None
    exit: int
    reason: str


@dataclass(frozen=True)
class Pooled:
    """The known cells of all folds together, N of them, and a method's answers for them.

    `repeated`: folds ask about the same cells, which a bootstrap would take for others.
    """

    true: np.ndarray
    label: np.ndarray
    confidence: np.ndarray | None
    novelty_auroc: list[float]
    repeated: bool

    def interval_of(self, found: Interval) -> Interval:
        """Return a score with its interval over cells, or without if cells are repeated."""
        return Interval(found.mean, math.nan, math.nan) if self.repeated else found

    @property
    def classes(self) -> list[str]:
        """All types that occur."""
        return sorted(set(self.true) | set(self.label))


def asked(folder: Path, tasks: list[str], methods: list[str]) -> list[str]:
    """Return the methods that were asked about these tasks: some are for one protocol only."""
    runs = folder / "runs"
    return [
        name for name in methods if any((runs / name / f"{task}.json").exists() for task in tasks)
    ]


def read_folds(folder: Path, tasks: list[str], method: str) -> list[Fold]:
    """Read what a method answered to the folds of one protocol, level and seed.

    Parameters
    ----------
    folder
        Of a dataset and seed: tasks/, answers/METHOD/TASK.tsv, runs/METHOD/TASK.json.
    """
    return [_read_fold(folder, task, method) for task in tasks]


def _read_fold(folder: Path, task: str, method: str) -> Fold:
    run = Run(**read_json(folder / "runs" / method / f"{task}.json"))
    cells = read_task(folder / "tasks", task)
    if run.exit:
        return Fold(task, cells, None, run.exit, run.reason)
    try:
        answers = read_answers(folder / "answers" / method / f"{task}.tsv", cells)
    except ValueError as error:
        return Fold(task, cells, None, 1, f"{AGAINST}: {error}")
    return Fold(task, cells, answers, 0, "")


def pool(folds: list[Fold], part: str = "") -> Pooled | None:
    """Put the known cells of all folds together; None if a fold has no answers.

    Parameters
    ----------
    part
        Of the method, whose labels are taken; empty: the method itself.
    """
    true, label, confidence, auroc, cells = [], [], [], [], []
    for fold in folds:
        if fold.answers is None:
            return None
        known = fold.cells.known
        cells += fold.cells.query[known].tolist()
        true.append(fold.cells.true[known])
        label.append((fold.answers.parts[part] if part else fold.answers.label)[known])
        if not part and fold.answers.confidence is not None:
            confidence.append(fold.answers.confidence[known])
        if not part and fold.answers.novelty is not None:
            found = novelty_auroc(fold.answers.novelty, ~known)
            auroc += [] if found is None else [found]
    sure = np.concatenate(confidence) if len(confidence) == len(folds) else None
    repeated = len(set(cells)) < len(cells)
    return Pooled(np.concatenate(true), np.concatenate(label), sure, auroc, repeated)


@dataclass(frozen=True)
class Group:
    """What methods answered to all folds of a protocol and level."""

    asked: Asked
    folds: dict[str, list[Fold]]


def read_groups(folder: Path, dataset: str, seed: int, methods: list[str]) -> Iterator[Group]:
    """Yield the groups of a dataset and seed; see `read_folds`."""
    table = read_tasks(folder / "tasks")
    for (protocol, level), lines in table.groupby(["protocol", "level"], sort=False):
        tasks = lines["task"].tolist()
        yield Group(
            Asked(dataset, str(protocol), str(level), seed),
            {name: read_folds(folder, tasks, name) for name in asked(folder, tasks, methods)},
        )


def score_group(group: Group, settings: Evaluate) -> Iterator[Score]:
    """Yield the scores of each method and of its parts, or why it has none."""
    where = group.asked.place
    for method, folds in group.folds.items():
        failed = next((fold for fold in folds if fold.answers is None), None)
        if failed:
            reason = _reason(failed, folds)
            yield Score(*where, method, MAIN, exit=failed.exit, reason=reason)
            continue
        for part in ["", *_parts(folds)]:
            pooled = pool(folds, part)
            assert pooled is not None  # no fold has failed
            name = f"{method}.{part}" if part else method
            for metric, found in _scores(pooled, settings):
                numbers = (found.mean, found.low, found.high, len(pooled.true))
                yield Score(*where, name, metric, *numbers)


def _reason(failed: Fold, folds: list[Fold]) -> str:
    """Return why a fold failed, with its number in the names of its files if there are others."""
    number = failed.task.rpartition("-")[2]
    return f"fold {number}: {failed.reason}" if len(folds) > 1 else failed.reason


def read_costs(folder: Path, dataset: str, seed: int, methods: list[str]) -> pd.DataFrame:
    """Return what each run took, a line for each method and task."""
    tasks, lines = read_tasks(folder / "tasks").to_dict("records"), []
    for method in methods:
        for line in tasks:
            if not asked(folder, [line["task"]], [method]):
                continue
            run = read_json(folder / "runs" / method / f"{line['task']}.json")
            lines.append({**line, **run, "dataset": dataset, "seed": seed, "method": method})
    return pd.DataFrame(lines, columns=list(COSTS))


def _parts(folds: list[Fold]) -> list[str]:
    names = [set(fold.answers.parts) if fold.answers else set() for fold in folds]
    return sorted(set.intersection(*names))


def _scores(pooled: Pooled, settings: Evaluate) -> Iterator[tuple[str, Interval]]:
    """Yield each metric with its value, and its interval or NaN."""
    found = metrics.bootstrap_scores(pooled.true, [pooled.label], pooled.classes, settings)
    for metric, one in found.items():
        yield metric, pooled.interval_of(Interval(one.mean, one.low, one.high))
    if pooled.confidence is not None:
        bins = reliability(pooled.confidence, pooled.label == pooled.true)
        yield "ece", Interval(expected_calibration_error(bins), math.nan, math.nan)
    if pooled.novelty_auroc:
        yield "novelty_auroc", Interval(float(np.mean(pooled.novelty_auroc)), math.nan, math.nan)


def compare_group(group: Group, first: str, settings: Evaluate) -> Iterator[Measured]:
    """Yield the score of the first method minus that of each other, where both have answered."""
    where = group.asked.place
    pooled = {method: pool(folds) for method, folds in group.folds.items()}
    ours = pooled.pop(first, None)
    for method, theirs in pooled.items():
        if not (ours and theirs):
            continue
        classes = sorted({*ours.classes, *theirs.classes})
        found = metrics.paired_difference(
            ours.true, [ours.label], [theirs.label], classes, settings
        )
        for metric in COMPARED:
            one = ours.interval_of(found[metric])
            numbers = (one.mean, one.low, one.high, len(ours.true))
            yield Measured(*where, method, metric, *numbers)
