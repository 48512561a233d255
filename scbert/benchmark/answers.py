"""Answers of a method: a table with a line for each cell of the query, checked here.

Columns: cell; label, a type that was taught; perhaps p:TYPE, its probability of each type; perhaps
novelty, larger for cells that resemble no type that was taught; perhaps label:PART, what a part of
the method says alone, which the scores show as a method of its own (METHOD.PART).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scbert.benchmark.task_files import TaskCells
from scbert.tables import read_table

PROBABILITY, PART = "p:", "label:"
CLOSE = 0.01  # probabilities are rounded


@dataclass(frozen=True)
class Answers:
    """What a method says of the cells of a query, in their order; N cells.

    `label` has shape (N,), `parts` the labels that parts of the method give. `confidence` is the
    probability of the label and `novelty` how little a cell resembles the types that were taught,
    both (N,), or None where the method has neither.
    """

    label: np.ndarray
    confidence: np.ndarray | None
    novelty: np.ndarray | None
    parts: dict[str, np.ndarray]


def read_answers(path: Path, task: TaskCells) -> Answers:
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
    return Answers(
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
    sums = numbers.sum(axis=1)
    if (numbers < 0).any(axis=None) or ((sums - 1).abs() > CLOSE).any():
        raise ValueError(
            f"probabilities must be at least 0 and add up to 1 for each cell; found sums from "
            f"{sums.min():.3g} to {sums.max():.3g}"
        )
    return numbers


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    numbers = table.apply(pd.to_numeric, errors="coerce")
    if not np.isfinite(numbers.to_numpy(dtype=np.float64)).all():
        raise ValueError(
            f"the columns {', '.join(map(str, table.columns))} must hold finite numbers only"
        )
    return numbers


def _confidence(probabilities: pd.DataFrame | None, label: np.ndarray) -> np.ndarray | None:
    if probabilities is None:
        return None
    of_label = probabilities.reindex(columns=np.unique(label), fill_value=0.0)
    column = of_label.columns.get_indexer(pd.Index(label))
    return of_label.to_numpy(dtype=np.float64)[np.arange(len(label)), column]


def _novelty(table: pd.DataFrame, probabilities: pd.DataFrame | None) -> np.ndarray | None:
    if "novelty" in table:
        return _numbers(table[["novelty"]])["novelty"].to_numpy(dtype=np.float64)
    if probabilities is None:
        return None
    return 1 - probabilities.max(axis=1).to_numpy(dtype=np.float64)
