"""What each method called each cell, as one table: two runs can be compared cell by cell."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from scbert.benchmark.score import asked, read_folds
from scbert.benchmark.task_files import read_tasks

LABELS = "labels.tsv.gz"  # the file of all of them
COLUMNS = ("dataset", "seed", "task", "method", "cell", "true", "label")
KEYS = list(COLUMNS[:5])


def all_labels(folders: Sequence[Path], methods: Sequence[str]) -> pd.DataFrame:
    """Return the labels of all datasets and seeds, with the columns of `COLUMNS`, as text.

    Parameters
    ----------
    folders
        DATASET/seedS, see `labels_of`.
    """
    tables = [
        table
        for folder in folders
        for table in labels_of(
            folder, folder.parent.name, int(folder.name.removeprefix("seed")), list(methods)
        )
    ]
    return pd.concat(tables)[list(COLUMNS)] if tables else pd.DataFrame(columns=list(COLUMNS))


def labels_of(folder: Path, dataset: str, seed: int, methods: list[str]) -> Iterator[pd.DataFrame]:
    """Yield the labels that each method gave to the cells of each task; none where it failed.

    Parameters
    ----------
    folder
        As for `read_folds`.
    """
    for task in read_tasks(folder / "tasks")["task"]:
        for method in asked(folder, [task], methods):
            (fold,) = read_folds(folder, [task], method)
            if fold.answers:
                cells = {"cell": fold.cells.query, "true": fold.cells.true}
                table = pd.DataFrame(cells | {"label": fold.answers.label})
                yield table.assign(dataset=dataset, seed=str(seed), task=task, method=method)


def changed_labels(now: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Return, for each method and dataset, how many of the cells of both runs are called otherwise.

    Parameters
    ----------
    now, before
        Tables of two runs with the columns of `COLUMNS`, as text.

    Returns
    -------
    Columns method, dataset, cells (asked about in both runs), changed, became_right, became_wrong.
    """
    both = now.merge(before, on=KEYS, suffixes=("", "_before"))
    both["changed"] = both["label"] != both["label_before"]
    both["became_right"] = both["changed"] & (both["label"] == both["true"])
    both["became_wrong"] = both["changed"] & (both["label_before"] == both["true"])
    grouped = both.groupby(["method", "dataset"], sort=False)
    counts = grouped[["changed", "became_right", "became_wrong"]].sum()
    counts.insert(0, "cells", grouped.size())
    return counts.reset_index()
