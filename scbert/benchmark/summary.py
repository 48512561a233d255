"""All scores of the benchmark in one long table, and their means over seeds.

A method that failed has no value there, and is in no mean: its exit code and reason stand instead.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
from scipy import stats

from scbert.benchmark.score import COLUMNS as SCORES
from scbert.benchmark.score import COSTS, COUNTED, KEYS
from scbert.benchmark.task_files import dataset_and_seed
from scbert.tables import read_table

SPENT = ("seconds", "peak_mb", "gpu_mb")
COLUMNS = (*KEYS, "metric", "value", "low", "high", "cells", *SPENT, "exit", "reason")
WHERE = ("dataset", "protocol", "level", "method")
WHOLE = ("seed", "cells", "peak_mb", "gpu_mb", "exit")
OVER_SEEDS, OVER_CELLS, NO_INTERVAL = "seeds", "cells", ""
Record = dict[str, str | float | None]  # a line of a table, as JSON


@dataclass(frozen=True)
class MeanScore:
    """A mean over the seeds that have a score; `interval` says over what its ends are taken.

    `seeds` have a score, `failed_seeds` have none.
    """

    dataset: str
    protocol: str
    level: str
    method: str
    metric: str
    value: float
    low: float
    high: float
    interval: str
    cells: float  # of the seed with most
    seeds: int
    failed_seeds: int
    reason: str  # why the first of these failed


MEANS = tuple(field.name for field in fields(MeanScore))


class BenchmarkData(TypedDict):
    """Content of benchmark.json, see config/benchmark.schema.json."""

    format: int
    confidence_level: float
    scores: list[Record]
    means: list[Record]


@dataclass(frozen=True)
class Rooms:
    """What the folders of all datasets and seeds hold, each a long table with numbers as such.

    `differences` are of the first method and each other; `costs` has a line for each task, and
    whether the method failed there or elsewhere in the same protocol and level; `tasks` those of
    every dataset and seed.
    """

    scores: pd.DataFrame
    differences: pd.DataFrame
    costs: pd.DataFrame
    tasks: pd.DataFrame


def read_rooms(folders: Sequence[Path]) -> Rooms:
    """Read the tables in the folders DATASET/seedS, in the order given."""
    scores = _joined(folders, "scores.tsv", SCORES, ("seed", "value", "low", "high"))
    for name in ("cells", "exit"):
        scores[name] = pd.to_numeric(scores[name], errors="coerce")
    numbers = ("seed", "value", "low", "high", "cells")
    differences = _joined(folders, "differences.tsv", (*KEYS, "metric"), numbers)
    costs = _joined(folders, "costs.tsv", COSTS, ("seed", *COUNTED))
    failed = scores.loc[scores["exit"] != 0, list(KEYS)].drop_duplicates().assign(failed=True)
    costs = costs.merge(failed, on=list(KEYS), how="left")
    costs["failed"] = costs["failed"].notna()
    tasks = _joined(folders, "tasks/tasks.tsv", ("task", "query_sha256", "skipped"), ())
    return Rooms(scores, differences, costs, tasks)


def _joined(
    folders: Sequence[Path], name: str, columns: Iterable[str], numbers: Iterable[str]
) -> pd.DataFrame:
    tables = []
    for folder in folders:
        table = read_table(folder / name, *columns)
        if "dataset" not in table:
            dataset, seed = dataset_and_seed(folder)
            table.insert(0, "dataset", dataset)
            table.insert(1, "seed", seed)
        tables.append(table)
    joined = pd.concat(tables, ignore_index=True)
    for column in numbers:
        joined[column] = pd.to_numeric(joined[column], errors="coerce")
    return joined


def long_table(rooms: Rooms) -> pd.DataFrame:
    """Return a line for each score, in the order of `COLUMNS`.

    `seconds` is the sum, `peak_mb` and `gpu_mb` the largest of the runs whose answers are scored
    together. A part of a method has none of its own.
    """
    measured = {"seconds": "sum", "peak_mb": "max", "gpu_mb": "max"}
    spent = rooms.costs.groupby(list(KEYS), sort=False).agg(measured)
    table = rooms.scores.merge(spent.reset_index(), on=list(KEYS), how="left")
    table["seconds"] = table["seconds"].round(2)
    return table[list(COLUMNS)]


def t_interval(values: Sequence[float], level: float) -> tuple[float, float, float]:
    """Return the mean and the ends of its t interval, which are NaN for fewer than two values."""
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean()) if len(found) else np.nan
    if len(found) < 2:
        return mean, np.nan, np.nan
    half = stats.t.ppf((1 + level) / 2, len(found) - 1) * stats.sem(found)
    return mean, mean - float(half), mean + float(half)


def means_over_seeds(table: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return the mean of each score over the seeds, in the order of `MEANS`.

    Parameters
    ----------
    table
        As `long_table` makes it, or the table of differences.
    level
        Of the intervals. Cells are the same with every seed, so that seeds that agree do not say
        how far other cells would differ: taken is the wider of that of t over the seeds and the
        mean over the seeds of those of the bootstrap over cells. Column `interval` says which. What
        has none over cells has none.
    """
    lines: list[MeanScore] = []
    for key, of_method in table.groupby(list(WHERE), sort=False):
        failed = of_method[of_method["exit"] != 0] if "exit" in of_method else of_method.iloc[:0]
        reason = failed["reason"].iloc[0] if len(failed) else ""
        for metric, group in of_method.groupby("metric", sort=False):
            dataset, protocol, of_level, method = map(str, key)
            where = (dataset, protocol, of_level, method, str(metric))
            numbers = (*_mean(group, level), failed["seed"].nunique(), reason)
            lines.append(MeanScore(*(*where, *numbers)))
    return pd.DataFrame(lines, columns=list(MEANS))


def _mean(group: pd.DataFrame, level: float) -> tuple[float, float, float, str, float, int]:
    """Return a mean and what follows it in `MeanScore`, down to the number of seeds."""
    good = group[group["value"].notna()]
    mean, low, high = t_interval(good["value"].tolist(), level)
    ends, interval = (good["low"].mean(), good["high"].mean()), OVER_SEEDS
    if not len(good) or good["low"].isna().any():
        low, high, interval = np.nan, np.nan, NO_INTERVAL
    elif not high - low > ends[1] - ends[0]:
        low, high, interval = *ends, OVER_CELLS
    if "exit" in group:  # scores, and not differences: none is outside 0 to 1
        low, high = np.clip((low, high), 0, 1)
    return mean, low, high, interval, good["cells"].max(), len(good)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the long table as it is written: six digits, whole numbers as such, gaps empty."""
    table = table.copy()
    for name in table.columns:
        if name in WHOLE or pd.api.types.is_numeric_dtype(table[name]):
            form = "{:.0f}" if name in WHOLE else "{:.6g}"
            table[name] = ["" if pd.isna(x) else form.format(x) for x in table[name]]
    return table


def as_json(table: pd.DataFrame, means: pd.DataFrame, level: float) -> BenchmarkData:
    """Return both tables as config/benchmark.schema.json describes it."""
    return {
        "format": 1,
        "confidence_level": level,
        "scores": _records(table),
        "means": _records(means),
    }


def _records(table: pd.DataFrame) -> list[Record]:
    return [
        {str(name): _plain(str(name), value) for name, value in line.items()}
        for line in table.to_dict("records")
    ]


def _plain(name: str, value: str | float) -> str | float | None:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return None
    whole = name in {*WHOLE, "seeds", "failed_seeds"}
    return int(value) if whole else float(f"{value:.6g}")
