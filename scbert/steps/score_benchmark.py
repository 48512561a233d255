"""Rule score_benchmark: answers of all methods to the tasks of a dataset -> scores and costs."""

import logging
from pathlib import Path

import pandas as pd

from scbert.benchmark.score import (
    COLUMNS,
    COMPARED_COLUMNS,
    Group,
    Measured,
    Score,
    compare_group,
    read_costs,
    read_groups,
    score_group,
)
from scbert.config import Evaluate
from scbert.tables import write_table

FORMAT = "%.6g"
log = logging.getLogger("scbert")


def score_benchmark(
    folder: Path,
    dataset: str,
    seed: int,
    methods: list[str],
    scores: Path,
    differences: Path,
    costs: Path,
    settings: Evaluate,
) -> None:
    """Score what each method answered, and the first method beside each other.

    Parameters
    ----------
    folder
        Of the dataset and seed, see `read_folds`.
    scores, differences, costs
        Tables to write; the first two are the same, byte for byte, when the answers are.
    """
    scored: list[Score] = []
    compared: list[Measured] = []
    for group in read_groups(folder, dataset, seed, methods):
        _log_failures(group)
        scored += score_group(group, settings)
        compared += compare_group(group, methods[0], settings)
    write_table(scores, _rounded(pd.DataFrame(scored, columns=list(COLUMNS))))
    write_table(differences, _rounded(pd.DataFrame(compared, columns=list(COMPARED_COLUMNS))))
    write_table(costs, read_costs(folder, dataset, seed, methods))


def _log_failures(group: Group) -> None:
    """Log each fold that failed: the table has the first of them only."""
    for method, folds in group.folds.items():
        for fold in folds:
            if fold.answers is None:
                log.warning("%s failed, %s: %s", method, fold.task, fold.reason)


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    numbers = ["value", "low", "high"]
    table[numbers] = table[numbers].map(lambda x: "" if pd.isna(x) else FORMAT % x)
    table["cells"] = table["cells"].map(lambda x: "" if pd.isna(x) else str(int(x)))
    return table
