"""Aims of the benchmark: where the numbers of its first method do not reach the aims.

A part of docs/results/benchmark.md, which benchmark_page.py writes.
"""

from collections.abc import Iterator

import pandas as pd

from scbert.benchmark.results import PROTOCOLS, Results
from scbert.benchmark.statistics import EQUAL
from scbert.report.text import table

WHOLE = ("within_dataset", "across_batches", "across_datasets")  # the first answers for a dataset
SIMPLE = "logistic_regression"
MOST_ECE = 0.03


def shortfalls(found: Results) -> str:
    """Return where the first method is behind the best other, and where it is not calibrated."""
    scores = by_task(found, "macro_f1")
    parts = [
        "## Aims that are not reached",
        f"Aims on each dataset, {', '.join(PROTOCOLS[name].lower() for name in WHOLE)}: macro "
        f"F1 at most {EQUAL:g} below the best other method, and a calibration error of at most "
        f"{MOST_ECE:g}.",
        behind(found, scores),
        uncalibrated(found, by_task(found, "ece")),
        beside_simple(found, scores),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def by_task(found: Results, metric: str) -> pd.DataFrame:
    """Return the scores, means over seeds: a row for each protocol and dataset, by method."""
    scores = found.scores(metric)
    scores = scores[scores["protocol"].isin(WHOLE)]
    grid = scores.set_index(["protocol", "dataset", "method"])["value"].unstack("method")
    order = [(name, one) for name in WHOLE for one in found.datasets if (name, one) in grid.index]
    return grid.reindex(order)


def behind(found: Results, scores: pd.DataFrame) -> str:
    """Return a table of the tasks in which another method is clearly better, or has a score alone.

    The best other method is known by hindsight only.
    """
    lines = list(_behind(found, scores))
    if not lines:
        return f"Macro F1: reached in all {len(scores)}."
    heads = ["protocol", "dataset", "best other method", found.title(found.first), "the other"]
    return f"Macro F1: not reached in {len(lines)} of {len(scores)}.\n\n" + table(
        [*heads, "difference"], lines, 3
    )


def _behind(found: Results, scores: pd.DataFrame) -> Iterator[list[str]]:
    others = scores.reindex(columns=found.rivals).dropna(how="all")
    for key in others.index.tolist():
        row = others.loc[key]
        ours, best = scores[found.first][key], row.max()
        if ours - best >= -EQUAL:
            continue
        shown = ["failed", f"{best:.3f}", ""]
        if not pd.isna(ours):
            shown = [f"{ours:.3f}", f"{best:.3f}", f"{ours - best:+.3f}"]
        yield [*named(key), found.title(str(row.idxmax())), *shown]


def named(key: tuple[str, str]) -> tuple[str, str]:
    """Return protocol and dataset as they are written."""
    return PROTOCOLS[key[0]].lower(), key[1].replace("_", " ")


def uncalibrated(found: Results, errors: pd.DataFrame) -> str:
    """Return in a sentence where the calibration error is above the aim."""
    if found.first not in errors:
        return ""
    ours = errors[found.first]
    high = ours[~(ours <= MOST_ECE)]  # one that failed has none
    if high.empty:
        return f"Calibration error: reached in all {len(ours)}."
    places = []
    for key in high.index.tolist():
        protocol, dataset = named(key)
        error = "failed" if pd.isna(high[key]) else f"{high[key]:.3f}"
        places.append(f"{dataset}, {protocol} ({error})")
    return f"Calibration error: not reached in {len(high)} of {len(errors)}: {'; '.join(places)}."


def beside_simple(found: Results, scores: pd.DataFrame) -> str:
    """Return the means of the first method and of balanced logistic regression over all tasks."""
    if SIMPLE not in scores or found.first == SIMPLE:
        return ""
    both = scores[[found.first, SIMPLE]].dropna()
    ours, theirs = both.mean()
    return (
        f"Mean macro F1 of the {len(both)} in which both have a score: "
        f"{found.title(found.first)} {ours:.3f}, {found.title(SIMPLE)} {theirs:.3f}, difference "
        f"{ours - theirs:+.3f}."
    )
