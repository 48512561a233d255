"""Tasks and answers as files: what a method is given, and what it gives back, checked here.

There is a table of all tasks of a dataset, for each task a table of its cells, and answers have a
line for each cell of the query. Their columns: cell; label, a type that was taught; perhaps p:TYPE,
its probability of each type; perhaps novelty, larger for cells that resemble no type that was
taught; perhaps label:PART, what a part of the method says alone, which the scores show as a method
of its own (METHOD.PART).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from scbert.benchmark.protocols import BenchmarkTask, LabelledSet, Skipped
from scbert.files import publish
from scbert.tables import read_table, write_table

TABLE = "tasks.tsv"
COLUMNS = (
    *("task", "protocol", "level", "fold", "learned_cells", "query_cells", "types"),
    *("query_only_types", "left_out", "query_sha256", "skipped"),
)
PROBABILITY, PART = "p:", "label:"
CLOSE = 0.01  # probabilities are rounded


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


def write_tasks(folder: Path, found: list[BenchmarkTask | Skipped], cells: LabelledSet) -> None:
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


def _cells_table(task: BenchmarkTask, cells: LabelledSet) -> pd.DataFrame:
    rows = np.concatenate([task.learned, task.query])
    types = np.concatenate([task.taught, cells.cell_types[task.query]])
    part = np.repeat(["learned", "query"], [len(task.learned), len(task.query)])
    return pd.DataFrame({"row": rows, "cell": cells.cells[rows], "part": part, "cell_type": types})


def _described(task: BenchmarkTask, cells: LabelledSet) -> dict[str, object]:
    taught, asked = set(task.taught), set(cells.cell_types[task.query])
    return {
        "protocol": task.protocol,
        "level": task.level,
        "fold": task.fold,
        "learned_cells": len(task.learned),
        "query_cells": len(task.query),
        "types": len(taught),
        "query_only_types": ", ".join(sorted(asked - taught)),
        "left_out": task.left_out,
        "query_sha256": sha256_of_cells(cells.cells[task.query]),
    }


def sha256_of_cells(cells: Iterable[str]) -> str:
    """Return the SHA-256 of the ids of cells, in their order."""
    return hashlib.sha256("\n".join(cells).encode()).hexdigest()


@dataclass(frozen=True)
class MethodAnswers:
    """Answers of a method for the cells of a query, in their order; N cells.

    `label` has shape (N,), `parts` the labels that parts of the method give. `confidence` is the
    probability of the label and `novelty` how little a cell resembles the types that were taught,
    both (N,), or None where the method has neither.
    """

    label: np.ndarray
    confidence: np.ndarray | None
    novelty: np.ndarray | None
    parts: dict[str, np.ndarray]


def read_answers(path: Path, task: TaskCells) -> MethodAnswers:
    """Read the answers to a task and check that they keep the contract.

    Raises
    ------
    ValueError
        If a cell is missing, strange or there twice, a label was not taught, or probabilities are
        no probabilities.
    """
    table = read_table(path, "cell", "label").set_index("cell")
    _check_cells(table.index, task.query)
    table = table.loc[task.query]
    labels = {
        name: table[name].to_numpy(dtype=str) for name in map(str, table.columns) if _is_label(name)
    }
    for name, given in labels.items():
        strange = sorted(set(given) - set(task.taught))
        if strange:
            raise ValueError(
                f"column {name} holds '{strange[0]}', a type that was not taught. Taught were "
                f"{', '.join(sorted(set(task.taught)))}."
            )
    probabilities = _probabilities(table, task)
    own = labels.pop("label")
    return MethodAnswers(
        label=own,
        confidence=_confidence(probabilities, own),
        novelty=_novelty(table, probabilities),
        parts={name.removeprefix(PART): given for name, given in labels.items()},
    )


def _is_label(name: str) -> bool:
    return name == "label" or name.startswith(PART)


def _check_cells(found: pd.Index, needed: np.ndarray) -> None:
    if found.has_duplicates:
        raise ValueError(
            f"cell '{found[found.duplicated()][0]}' is there twice; each needs one line"
        )
    for name, lacking in (
        ("lacks", pd.Index(needed).difference(found)),
        ("holds", found.difference(pd.Index(needed))),
    ):
        if len(lacking):
            raise ValueError(
                f"the table {name} {len(lacking)} cells, such as '{lacking[0]}', but it must hold "
                f"the {len(needed)} cells of the query and no others"
            )


def _probabilities(table: pd.DataFrame, task: TaskCells) -> pd.DataFrame | None:
    columns = [name for name in map(str, table.columns) if name.startswith(PROBABILITY)]
    if not columns:
        return None
    numbers = _numbers(table[columns])
    numbers.columns = [name.removeprefix(PROBABILITY) for name in columns]
    strange = sorted(set(map(str, numbers.columns)) - set(task.taught))
    if strange:
        raise ValueError(f"column {PROBABILITY}{strange[0]} names a type that was not taught")
    wrong = (numbers < 0).any(axis=1) | ((numbers.sum(axis=1) - 1).abs() > CLOSE)
    if wrong.any():
        row = int(np.argmax(wrong))
        first = numbers.iloc[row]
        raise ValueError(
            f"the probabilities of {wrong.sum()} cells are wrong: those of cell "
            f"'{numbers.index[row]}' add up to {first.sum():.3g}, and the lowest is "
            f"{first.min():.3g}, but they must be at least 0 and add up to 1"
        )
    return numbers


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    numbers = table.apply(pd.to_numeric, errors="coerce")
    strange = ~np.isfinite(numbers.to_numpy(dtype=np.float64))
    if strange.any():
        column, row = np.argwhere(strange.T)[0]
        given = str(table.iat[row, column])
        raise ValueError(
            f"column {table.columns[column]} holds '{given}' for cell '{table.index[row]}', but it "
            "must hold finite numbers only"
        )
    return numbers


def _confidence(probabilities: pd.DataFrame | None, label: np.ndarray) -> np.ndarray | None:
    if probabilities is None:
        return None
    of_label = probabilities.reindex(columns=np.unique(label), fill_value=0.0)
    column = of_label.columns.get_indexer(pd.Index(label))
    found = of_label.to_numpy(dtype=np.float64)[np.arange(len(label)), column]
    return np.minimum(found, 1)  # rounded, they may add up to a little more


def _novelty(table: pd.DataFrame, probabilities: pd.DataFrame | None) -> np.ndarray | None:
    if "novelty" in table:
        return _numbers(table[["novelty"]])["novelty"].to_numpy(dtype=np.float64)
    if probabilities is None:
        return None
    return 1 - probabilities.max(axis=1).to_numpy(dtype=np.float64)
