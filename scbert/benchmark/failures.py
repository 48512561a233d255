"""Failures of the benchmark: a line for each method and reason."""

import re

import pandas as pd

from scbert.benchmark.page_tables import ColumnHead, Table, heads, number, words
from scbert.benchmark.results import PROTOCOLS, Results
from scbert.benchmark.score import AGAINST
from scbert.benchmark.score_tables import level_title
from scbert.benchmark.statistics import MAIN, is_part

FOLD = re.compile(r"^fold \S+: ")
PATH = re.compile(r"[^\s'\"]*/(?=[^\s/'\"]+)")  # of a file, up to its name
VARIES = re.compile(r"'[^']*'|\"[^\"]*\"|\b\S*\d\S*")  # cells, types, names of tasks, numbers


def failures_table(results: Results) -> Table | None:
    """Return how many scores each method lacks for one reason, and where; None if it lacks none."""
    table = results.long
    failed = table[(table["exit"] != 0) & (table["metric"] == MAIN)]
    failed = failed[~failed["method"].map(is_part)]
    if failed.empty:
        return None
    order = {method: place for place, method in enumerate(dict.fromkeys(failed["method"]))}
    failed = failed.sort_values("method", key=lambda names: names.map(order), kind="stable")
    kind = failed["reason"].map(kind_of_reason)
    rows = [
        [
            words(results.title(str(method))),
            number(len(lines), "{:.0f}"),
            words(_conditions(lines)),
            words(", ".join(dict.fromkeys(lines["dataset"]))),
            words(without_places(lines["reason"].iloc[0])),
        ]
        for (method, _), lines in failed.groupby(["method", kind], sort=False)
    ]
    header = heads(["Method", "Missing scores", "Protocols (levels)", "Datasets", "Reason"])
    texts = [ColumnHead(head.text, number=head.text == "Missing scores") for head in header]
    return Table(
        name="failures",
        caption="What failed, and why",
        heads=texts,
        rows=rows,
        note="Scores are counted by dataset, level and seed. The reason is the last line that the "
        "program wrote, or what ended it, without folders; where only numbers and names in quotes "
        "differ, one stands for all. All lines are in logs/run_benchmark_method/DATASET/seedS/"
        "METHOD/TASK.log, where the names of the tasks of fold N end with -N. "
        f"After '{AGAINST}' the program ended well: what it wrote is in "
        "results/benchmark/DATASET/seedS/answers/METHOD/TASK.tsv. All folds that failed, with "
        "their reasons, are in logs/score_benchmark/DATASET/seedS.log.",
        kind="long",
    )


def _conditions(lines: pd.DataFrame) -> str:
    levels = lines.drop_duplicates(["protocol", "level"])
    found = levels.groupby("protocol", sort=False)["level"].agg(
        lambda names: ", ".join(map(level_title, names))
    )
    return "; ".join(f"{PROTOCOLS.get(str(name), name)} ({level})" for name, level in found.items())


def without_places(reason: str) -> str:
    """Return a reason without its fold, and files by their names alone."""
    return PATH.sub("", FOLD.sub("", reason))


def kind_of_reason(reason: str) -> str:
    """Return what is the same of reasons that differ in names and numbers only."""
    return VARIES.sub("*", without_places(reason))
