"""Cells that all methods contradict: candidates for wrong labels.

Each method names a cell that it has not learned from. A cell is disputed where every method that is
no control, and has not failed, gives it the same label, another one than its own, with every seed.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scbert.benchmark.page_tables import Table, heads, number, words
from scbert.benchmark.results import Results
from scbert.benchmark.score import read_folds
from scbert.benchmark.task_files import dataset_and_seed

PROTOCOL = "within_dataset"
FEWEST_METHODS = 3  # that must agree, else the table would say what one of them says
MOST_SHOWN = 50
COLUMNS = ("dataset", "cell", "own", "said", "methods", "confidence", "seeds", "asked")


def disputed_cells(folders: Sequence[Path], results: Results) -> pd.DataFrame:
    """Return the disputed cells of all datasets, those first of which the methods are surest.

    Parameters
    ----------
    folders
        Those of the datasets and seeds, DATASET/seedS.
    """
    by_dataset: dict[str, list[pd.DataFrame]] = {}
    for folder in folders:
        found = _of_folder(folder, results)
        if found is not None:
            by_dataset.setdefault(dataset_and_seed(folder)[0], []).append(found)
    tables = [_in_all_seeds(name, found) for name, found in by_dataset.items()]
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS))
    joined = pd.concat(tables, ignore_index=True)[list(COLUMNS)]
    return joined.sort_values(["confidence", "dataset", "cell"], ascending=[False, True, True])


def _of_folder(folder: Path, results: Results) -> pd.DataFrame | None:
    """Return the disputed cells of a dataset and seed; None if too few methods answered."""
    dataset, seed = dataset_and_seed(folder)
    lines = _of_set(results.rooms.scores, dataset)
    answered = set(lines["method"][(lines["seed"] == int(seed)) & (lines["exit"] == 0)])
    methods = [name for name in results.methods if name in answered]
    methods = [name for name in methods if results.kind(name) != "control"]
    if len(methods) < FEWEST_METHODS:
        return None
    tasks = _of_set(results.rooms.tasks, dataset)
    names = [name for name in tasks["task"][tasks["seed"] == seed] if name]
    labels, confidences, own = [], [], pd.Series(dtype=str)
    for method in methods:
        said, sure, own = _answers(folder, names, method)
        labels.append(said)
        confidences += [] if sure is None else [sure]
    table = pd.DataFrame({"own": own, "said": labels[0]})
    same = np.all([said.to_numpy() == labels[0].to_numpy() for said in labels], axis=0)
    table["confidence"] = np.mean(confidences, axis=0) if confidences else np.nan
    table["methods"], table["asked"] = len(methods), len(table)
    return table[same & (table["said"] != table["own"])].rename_axis("cell").reset_index()


def _of_set(table: pd.DataFrame, dataset: str) -> pd.DataFrame:
    return table[(table["dataset"] == dataset) & (table["protocol"] == PROTOCOL)]


def _answers(
    folder: Path, tasks: list[str], method: str
) -> tuple[pd.Series, np.ndarray | None, pd.Series]:
    """Return a method's label of each cell, its confidence, and the cell's own label."""
    cells, said, sure, own = [], [], [], []
    for fold in read_folds(folder, tasks, method):
        if fold.answers is not None:
            cells.append(fold.cells.query)
            said.append(fold.answers.label)
            own.append(fold.cells.true)
            sure += [] if fold.answers.confidence is None else [fold.answers.confidence]
    index = np.concatenate(cells)
    return (
        pd.Series(np.concatenate(said), index=index),
        np.concatenate(sure) if len(sure) == len(cells) else None,
        pd.Series(np.concatenate(own), index=index),
    )


def _in_all_seeds(dataset: str, found: list[pd.DataFrame]) -> pd.DataFrame:
    joined = pd.concat(found, ignore_index=True)
    table = joined.groupby(["cell", "own", "said"], as_index=False).agg(
        methods=("methods", "min"),
        confidence=("confidence", "mean"),
        seeds=("cell", "size"),
        asked=("asked", "max"),
    )
    return table[table["seeds"] == len(found)].assign(dataset=dataset)


def disputed_table(cells: pd.DataFrame) -> Table:
    """Return the cells of which the methods are surest."""
    shown = cells.head(MOST_SHOWN)
    columns = ("dataset", "cell", "own", "said")
    return Table(
        name="disputed",
        caption="Cells that every method contradicts",
        heads=heads(
            ["Dataset", "Cell", "Its label", "What all methods say", "Mean confidence", "Methods"],
            texts=4,
        ),
        rows=[
            [
                *(words(line[name]) for name in columns),
                number(line["confidence"]),
                number(line["methods"], "{:.0f}"),
            ]
            for line in shown.to_dict("records")
        ],
    )


def judge_disputed(cells: pd.DataFrame) -> str:
    """Say in a sentence how many cells are disputed."""
    if cells.empty:
        return "No cell is contradicted by all methods with every seed."
    by_dataset = cells.groupby("dataset", sort=True)["asked"].agg(["size", "max"])
    parts = [
        f"{int(n):,} of {int(asked):,} cells of {name}"
        for name, n, asked in zip(
            by_dataset.index, by_dataset["size"], by_dataset["max"], strict=True
        )
    ]
    shown = min(len(cells), MOST_SHOWN)
    return (
        "Every method that is no control, and has not failed, gives the same other label to "
        f"{', '.join(parts)}. Shown: the {shown} of which the methods with probabilities are "
        "surest. Their labels may be wrong, or expression cannot tell the types apart."
    )
