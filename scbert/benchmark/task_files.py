"""Tasks as files: a table of all tasks of a dataset, and for each task a table of its cells."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from scbert.benchmark.protocols import LabelledSet, Skipped, Task
from scbert.files import publish
from scbert.tables import read_table, write_table

TABLE = "tasks.tsv"
COLUMNS = (
    *("task", "protocol", "level", "fold", "learned_cells", "query_cells", "types"),
    *("query_only_types", "query_sha256", "skipped"),
)


@dataclass(frozen=True)
class TaskCells:
    """The cells of a task, shapes (learned cells,) and (query cells,).

    `true` are the types of the query. No method sees them.
    """

    learned: np.ndarray
    taught: np.ndarray
    query: np.ndarray
    true: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Whether a query cell is of a type that was taught, shape (query cells,)."""
        return np.isin(self.true, self.taught)


def dataset_and_seed(folder: Path) -> tuple[str, str]:
    """Return the two of which a folder, DATASET/seedS, is."""
    return folder.parent.name, folder.name.removeprefix("seed")


def labelled_set(counts: Path) -> LabelledSet:
    """Read the labels of a file of counts, as rule read_counts writes it."""
    obs = ad.read_h5ad(counts, backed="r").obs
    batch = obs["batch"].to_numpy(dtype=str) if "batch" in obs else np.full(len(obs), "")
    return LabelledSet(obs.index.to_numpy(dtype=str), obs["cell_type"].to_numpy(dtype=str), batch)


def write_tasks(folder: Path, found: list[Task | Skipped], cells: LabelledSet) -> None:
    """Write the table of tasks, and a table of cells for each, into a new folder."""
    lines: list[dict[str, object]] = []
    n_folds: dict[str, int] = {}
    with publish(folder) as unfinished:
        unfinished.mkdir()
        for one in found:
            if isinstance(one, Skipped):
                lines.append({"protocol": one.protocol, "level": one.level, "skipped": one.reason})
                continue
            number = n_folds.setdefault(one.name, 0)
            n_folds[one.name] += 1
            name = f"{one.name}-{number}"
            write_table(unfinished / f"{name}.tsv", _cells_table(one, cells))
            lines.append({"task": name, **_described(one, cells)})
        table = pd.DataFrame(lines, columns=list(COLUMNS)).fillna("")
        write_table(unfinished / TABLE, table)


def read_tasks(folder: Path) -> pd.DataFrame:
    """Return the table of tasks, as text, without those that were skipped."""
    table = read_table(folder / TABLE, *COLUMNS)
    return table[table["task"] != ""]


def read_task(folder: Path, task: str) -> TaskCells:
    """Return the cells of a task."""
    table = read_table(folder / f"{task}.tsv", "row", "cell", "part", "cell_type")
    learned, query = (table[table["part"] == part] for part in ("learned", "query"))
    return TaskCells(
        learned["cell"].to_numpy(dtype=str),
        learned["cell_type"].to_numpy(dtype=str),
        query["cell"].to_numpy(dtype=str),
        query["cell_type"].to_numpy(dtype=str),
    )


def _cells_table(task: Task, cells: LabelledSet) -> pd.DataFrame:
    rows = np.concatenate([task.learned, task.query])
    types = np.concatenate([task.taught, cells.cell_types[task.query]])
    part = np.repeat(["learned", "query"], [len(task.learned), len(task.query)])
    return pd.DataFrame({"row": rows, "cell": cells.cells[rows], "part": part, "cell_type": types})


def _described(task: Task, cells: LabelledSet) -> dict[str, object]:
    taught, asked = set(task.taught), set(cells.cell_types[task.query])
    return {
        "protocol": task.protocol,
        "level": task.level,
        "fold": task.fold,
        "learned_cells": len(task.learned),
        "query_cells": len(task.query),
        "types": len(taught),
        "query_only_types": ", ".join(sorted(asked - taught)),
        "query_sha256": sha256_of_cells(cells.cells[task.query]),
    }


def sha256_of_cells(cells: Iterable[str]) -> str:
    """Return the SHA-256 of the ids of cells, in their order."""
    return hashlib.sha256("\n".join(cells).encode()).hexdigest()
