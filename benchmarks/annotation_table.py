"""The tables of benchmarks/annotation.py: predictions of all folds, pooled seed by seed."""

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


def write_tables(out: Path, lines: list[dict[str, Any]], data: Path, settings: Evaluate) -> None:
    """Write annotation.md from the results so far."""
    parts = [HEAD.format(level=settings.confidence_level, samples=settings.bootstrap_samples)]
    own: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        own.setdefault(line["task"], []).append(line)
    parts += [_section(out, task, found, data, settings) for task, found in own.items()]
    (out / "annotation.md").write_text("\n".join(parts))


def _section(
    out: Path, task: str, lines: list[dict[str, Any]], data: Path, settings: Evaluate
) -> str:
    made = TASKS[task](data, 2021)
    seeds = sorted({line["seed"] for line in lines})
    have = [{line["fold"] for line in lines if line["seed"] == seed} for seed in seeds]
    folds = sorted(set.intersection(*have))
    head = f"## {task}\n{len(folds)} of {len(made.tests)} folds, "
    head += f"seeds {', '.join(seed for seed in seeds if seed.isdigit()) or 'none yet'}. "
    head += "Reference of logistic regression: accuracy {:.3f}, macro F1 {:.3f}.\n".format(
        *made.reference
    )
    for batch, reason in made.skipped.items():
        head += f"Left out: {batch}, for {reason}\n"
    if not folds:
        return head
    true, predicted = _pooled(out, [line for line in lines if line["fold"] in folds])
    classes = sorted(
        {*true, *(label for runs in predicted.values() for run in runs for label in run)}
    )
    rows = [_row(name, predicted, true, classes, settings) for name in predicted]
    columns = ("method", "accuracy", "macro F1", *(f"macro F1 - {name}" for name in RIVALS))
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


def _row(
    name: str,
    predicted: dict[str, list[np.ndarray]],
    true: np.ndarray,
    classes: list[str],
    settings: Evaluate,
) -> tuple[str, ...]:
    scores = bootstrap_scores(true, predicted[name], classes, settings)
    own = (scores[key] for key in ("accuracy", "macro_f1"))
    row = [name, *(with_interval(score["mean"], score) for score in own)]
    for rival in RIVALS:
        if rival not in predicted or rival == name or name not in predicted:
            row.append("")
            continue
        found = paired_difference(true, predicted[name], predicted[rival], classes, settings)
        row.append(with_interval(found["macro_f1"]["mean"], found["macro_f1"], "+"))
    return tuple(row)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
