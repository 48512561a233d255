"""Results that the page of the benchmark shows, read and averaged once."""

from dataclasses import dataclass
from functools import cached_property
from textwrap import shorten

import numpy as np
import pandas as pd

from scbert.benchmark.statistics import (
    MAIN,
    ScoreDifference,
    control_scaled,
    is_part,
    paired_differences,
)
from scbert.benchmark.summary import Rooms, long_table, means_over_seeds
from scbert.config import Method

PROTOCOLS = {
    "within_dataset": "Within a dataset",
    "across_batches": "Across batches",
    "across_datasets": "Across datasets",
    "few_labels": "Few labels",
    "class_imbalance": "Class imbalance",
    "new_type": "A new type",
    "label_noise": "Label noise",
}
RIVALS = ("peer", "baseline")  # kinds of methods that the first is held against
TASKS = ("dataset", "protocol", "level")


@dataclass(frozen=True)
class Results:
    """Tables over all datasets and seeds, and the methods in the order they were asked for."""

    rooms: Rooms
    methods: dict[str, Method]
    confidence_level: float

    @cached_property
    def long(self) -> pd.DataFrame:
        """A line for each score, see `long_table`."""
        return long_table(self.rooms)

    @cached_property
    def means(self) -> pd.DataFrame:
        """Means over seeds, with the column `scaled`."""
        return control_scaled(means_over_seeds(self.long, self.confidence_level))

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Means over seeds of the first method minus each other."""
        return means_over_seeds(self.rooms.differences, self.confidence_level)

    @property
    def first(self) -> str:
        """The method that is compared with the others."""
        return next(iter(self.methods))

    @property
    def datasets(self) -> list[str]:
        """All datasets and pairs of them, in order."""
        return list(dict.fromkeys(self.rooms.tasks["dataset"]))

    @property
    def seeds(self) -> list[int]:
        """All seeds, in order."""
        return sorted(map(int, set(self.rooms.tasks["seed"])))

    @property
    def protocols(self) -> list[str]:
        """The protocols of which there are scores, in the order of the page."""
        found = set(self.rooms.scores["protocol"])
        return [name for name in PROTOCOLS if name in found]

    @property
    def has_control(self) -> bool:
        """Whether all scores can be scaled by those of random types."""
        known = self.means[(self.means["metric"] == MAIN) & self.means["value"].notna()]
        return len(known) > 0 and bool(known["scaled"].notna().all())

    def title(self, method: str) -> str:
        """Return the title of a method, or of a part of one."""
        if is_part(method):
            owner, _, part = method.partition(".")
            return f"{self.title(owner)}: {part.replace('_', ' ')}"
        return self.methods[method].title if method in self.methods else method

    def kind(self, method: str) -> str:
        """Return the kind of a method, or of that which it is a part of."""
        owner = method.partition(".")[0]
        return self.methods[owner].kind if owner in self.methods else ""

    def of_kind(self, *kinds: str) -> list[str]:
        """Return the methods of these kinds, in order."""
        return [name for name, method in self.methods.items() if method.kind in kinds]

    @property
    def rivals(self) -> list[str]:
        """The peers and baselines that the first method is held against; it may be one itself."""
        return [name for name in self.of_kind(*RIVALS) if name != self.first]

    def scores(self, metric: str = MAIN, protocol: str = "") -> pd.DataFrame:
        """Return the means of a metric, of whole methods; `score` is what is compared.

        That is the control-scaled score, or the score itself where the control lacks one. A method
        that failed somewhere has a line without a value there, of each metric that it has
        elsewhere.
        """
        table = self.means[~self.means["method"].map(is_part)]
        table = table[table["protocol"] == protocol] if protocol else table
        of_metric = table[table["metric"] == metric]
        if metric != MAIN:
            of_metric = pd.concat([of_metric, _failed(table, of_metric)], ignore_index=True)
        scaled = self.has_control and metric == MAIN
        return of_metric.assign(score=of_metric["scaled"] if scaled else of_metric["value"])

    def complete(self, metric: str = MAIN, protocol: str = "") -> list[str]:
        """Return the methods whose mean is of all that any method has: every task and seed."""
        table = self.scores(metric, protocol)
        table = table[table["value"].notna()]
        most = table.groupby(list(TASKS))["seeds"].transform("max")
        whole = table[table["seeds"] == most].groupby("method").size()
        tasks = n_tasks(table)
        return [name for name in self.methods if whole.get(name, 0) == tasks > 0]

    def compared(self, protocol: str) -> list[ScoreDifference]:
        """Return how far the first method is from each other, see `paired_differences`."""
        asked = n_tasks(self.scores(protocol=protocol))
        return paired_differences(self.differences, protocol, self.confidence_level, asked)

    def best_rival(self, protocol: str, metric: str = MAIN) -> str | None:
        """Return the peer or baseline with the best mean in a protocol: known by hindsight only.

        A method that failed on one of its tasks is not taken: its mean is of other tasks.
        """
        table, complete = self.scores(metric, protocol), self.complete(metric, protocol)
        table = table[table["method"].isin(set(self.rivals) & set(complete))]
        return None if table.empty else str(mean_by(table, "method", column="value").idxmax())


def _failed(table: pd.DataFrame, of_metric: pd.DataFrame) -> pd.DataFrame:
    """Return lines for the methods of a metric where they failed and others have a value."""
    asked = of_metric[list(TASKS)].drop_duplicates()
    failed = table[(table["metric"] == MAIN) & table["value"].isna()]
    failed = failed[failed["method"].isin(set(of_metric["method"]))].merge(asked, on=list(TASKS))
    return failed.assign(metric=of_metric["metric"].iloc[0] if len(of_metric) else "")


def n_tasks(means: pd.DataFrame) -> int:
    """Count what was asked: by dataset, protocol and level."""
    return len(means[list(TASKS)].drop_duplicates())


def what_lacks(asked: pd.DataFrame, mine: pd.DataFrame) -> str:
    """Say which tasks a mean lacks, of those that any method has; empty: none.

    Parameters
    ----------
    asked, mine
        Means over seeds, of all methods and of one.
    """
    tasks = n_tasks(asked)
    failed = mine[mine["value"].isna()]
    some = mine[mine["value"].notna() & (mine["failed_seeds"] > 0)]
    notes = []
    if len(failed):
        where = ", ".join(sorted(set(failed["dataset"])))
        notes.append(f"failed in {len(failed)} of {tasks} ({where}): {_short(failed)}")
    if len(some):
        notes.append(f"a seed failed in {len(some)} of {tasks}: {_short(some)}")
    if len(mine) < tasks:
        notes.append(f"not run in {tasks - len(mine)} of {tasks}")
    return "; ".join(notes)


def _short(failed: pd.DataFrame) -> str:
    return shorten(failed["reason"].iloc[0], 120, placeholder=" …")


def mean_by(table: pd.DataFrame, *keys: str, column: str = "score") -> pd.Series:
    """Average a column over levels, then datasets, then protocols, down to the keys.

    So that a protocol with many levels, or a dataset with many protocols, counts once.
    """
    steps = ["level", "dataset", "protocol"]
    left = list(dict.fromkeys([*keys, "method", *steps]))
    found: pd.DataFrame = table[[*left, column]]
    for step in steps:
        if step not in keys:
            left.remove(step)
            found = found.groupby(left, sort=False)[column].mean().reset_index()
    return found.groupby(list(keys), sort=False)[column].mean()


def cost_of(results: Results, protocol: str) -> pd.DataFrame:
    """Return what each method took in a protocol, failed runs left out.

    Columns, by method: wall and processor seconds per 1,000 cells, learned from and named, and the
    largest memory.
    """
    costs = results.rooms.costs
    costs = costs[(costs["protocol"] == protocol) & ~costs["failed"]]
    costs = costs.assign(cells=costs["learned_cells"] + costs["query_cells"])
    measured = {"seconds": "sum", "cpu_seconds": "sum", "cells": "sum"}
    measured |= {"peak_mb": "max", "gpu_mb": "max"}
    sums = costs.groupby("method").agg(measured)
    for name in ("seconds", "cpu_seconds"):
        sums[f"{name}_per_1000"] = 1000 * sums[name] / sums["cells"].replace(0, np.nan)
    return sums
