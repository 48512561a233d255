"""The tables of benchmarks/annotation.py: predictions of all folds, pooled seed by seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from annotation_tasks import TASKS

from scbert.cells.tables import read_table
from scbert.config import Evaluate
from scbert.evidence.intervals import with_interval
from scbert.evidence.metrics import bootstrap_scores, paired_difference

RIVALS = ("logistic_regression", "logistic_regression_binned")
HEAD = """Cells of all folds are pooled, seed by seed, and scored once: the mean over seeds, with a
{level:.0%} bootstrap interval over cells ({samples} resamples, the same for all methods). A
difference is the macro F1 of the method minus that of the other, on the same resamples. Logistic
regression and the support vector machine see log2 CP10K of all genes and are fitted on training and
validation cells (MaxAbs, C = 1); logistic regression on bins is fitted on training cells and tuned
on validation cells, as scBERT is, and kept in its bundle.
"""


@dataclass(frozen=True)
class TaskScores:
    """What the methods reach on a task, over complete seeds.

    `methods`: by name, the method's own `accuracy` and `macro_f1` with their intervals, and
    `against`, by rival, the difference of macro F1 with its interval.
    """

    task: str
    n_folds: tuple[int, int]  # that were run, and that there are
    seeds: list[str]
    n_cells: int
    reference: tuple[float, float]
    skipped: dict[str, str]
    methods: dict[str, dict[str, Any]]


def write_tables(out: Path, lines: list[dict[str, Any]], data: Path, settings: Evaluate) -> None:
    """Write annotation.md from the results so far."""
    head = HEAD.format(level=settings.confidence_level, samples=settings.bootstrap_samples)
    found = score_tasks(out, lines, data, settings)
    (out / "annotation.md").write_text("\n".join([head, *map(section, found)]))


def score_tasks(
    out: Path, lines: list[dict[str, Any]], data: Path, settings: Evaluate
) -> list[TaskScores]:
    """Score what has been predicted so far, task by task."""
    own: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        own.setdefault(line["task"], []).append(line)
    return [_score(out, task, found, data, settings) for task, found in own.items()]


def _score(
    out: Path, task: str, lines: list[dict[str, Any]], data: Path, settings: Evaluate
) -> TaskScores:
    """Leave out a seed that has fewer folds than the one that has most."""
    made = TASKS[task](data, 2021)
    folds: dict[str, set[str]] = {}
    for line in lines:
        folds.setdefault(line["seed"], set()).add(line["fold"])
    trained = {seed: own for seed, own in folds.items() if seed.isdigit()} or folds
    most = max(trained.values(), key=len)
    seeds = sorted(seed for seed, own in folds.items() if own >= most)
    kept = [line for line in lines if line["seed"] in seeds and line["fold"] in most]
    true, predicted = _pooled(out, kept)
    classes = sorted(
        {*true, *(label for runs in predicted.values() for run in runs for label in run)}
    )
    return TaskScores(
        task=task,
        n_folds=(len(most), len(made.tests)),
        seeds=[seed for seed in seeds if seed.isdigit()],
        n_cells=len(true),
        reference=made.reference,
        skipped=made.skipped,
        methods={name: _method(name, predicted, true, classes, settings) for name in predicted},
    )


def section(found: TaskScores) -> str:
    """Return the table of a task."""
    head = f"## {found.task}\n\n{found.n_folds[0]} of {found.n_folds[1]} folds, "
    head += f"{found.n_cells:,} test cells, seeds {', '.join(found.seeds) or 'none yet'}. "
    head += "The issue's logistic regression: accuracy {:.3f}, macro F1 {:.3f}.\n".format(
        *found.reference
    )
    for batch, reason in found.skipped.items():
        head += f"Left out: {batch}, for {reason}\n"
    columns = ("method", "accuracy", "macro F1", *(f"macro F1 - {name}" for name in RIVALS))
    rows = []
    for name, own in found.methods.items():
        scores = (with_interval(own[key]["mean"], own[key]) for key in ("accuracy", "macro_f1"))
        against = (own["against"].get(rival) for rival in RIVALS)
        differences = (with_interval(one["mean"], one, "+") if one else "" for one in against)
        rows.append((name, *scores, *differences))
    return head + "\n" + _table(columns, rows)


def _pooled(
    out: Path, lines: list[dict[str, Any]]
) -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
    """Return the true types of all tested cells, and by method what each seed says of them."""
    predicted: dict[str, list[np.ndarray]] = {}
    true: pd.Series | None = None
    for seed in sorted({line["seed"] for line in lines}):
        own = sorted((line for line in lines if line["seed"] == seed), key=lambda li: li["fold"])
        tables = [read_table(out / line["predictions"], "cell", "true") for line in own]
        table = pd.concat(tables).set_index("cell")
        true = table.true if true is None else true
        table = table.loc[true.index]
        for method in table.columns.drop("true"):
            predicted.setdefault(method, []).append(table[method].to_numpy(dtype=str))
    assert true is not None
    first = [name for name in ("scbert",) if name in predicted]
    ordered = {name: predicted[name] for name in [*first, *predicted]}
    return true.to_numpy(dtype=str), ordered


def _method(
    name: str,
    predicted: dict[str, list[np.ndarray]],
    true: np.ndarray,
    classes: list[str],
    settings: Evaluate,
) -> dict[str, Any]:
    scores = bootstrap_scores(true, predicted[name], classes, settings)
    against = {
        rival: paired_difference(true, predicted[name], predicted[rival], classes, settings)
        for rival in RIVALS
        if rival in predicted and rival != name
    }
    differences = {rival: found["macro_f1"] for rival, found in against.items()}
    return {key: scores[key] for key in ("accuracy", "macro_f1")} | {"against": differences}


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
