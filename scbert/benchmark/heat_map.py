"""The heat map: methods x (overall, each protocol, each dataset, calibration, novelty, costs)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scbert.benchmark.page_tables import HATCHED, Cell, ColumnHead, Table, marked, words
from scbert.benchmark.results import PROTOCOLS, Results, cost_of, mean_by, what_lacks
from scbert.report.text import NOTHING, duration, memory

MOST_ECE = 0.5  # shown as white
LAST = -1.0  # where methods without an overall score are sorted to
NEW_GROUP = "group"  # class of the first column of a group


@dataclass(frozen=True)
class Column:
    """A column: its head, and which scores are averaged in it."""

    head: ColumnHead
    scores: pd.DataFrame


def heat_map(results: Results) -> Table:
    """Return the heat map, the best method on top; those that failed somewhere come after."""
    columns = _columns(results)
    lines = {name: [_score(column.scores, name) for column in columns] for name in results.methods}
    extra = [_calibration(results), _novelty(results), *_costs(results)]
    complete = results.complete()
    whole = {name: name in complete for name in lines}
    order = sorted(lines, key=lambda name: (whole[name], _height(lines[name][0])), reverse=True)
    rows = [
        [
            words(results.title(name)),
            *lines[name],
            *(cells.get(name, Cell(NOTHING)) for _, cells in extra),
        ]
        for name in order
    ]
    return Table(
        name="heat-map",
        caption="Methods and what they reach",
        heads=[
            ColumnHead("Method", number=False),
            *(c.head for c in columns),
            *(h for h, _ in extra),
        ],
        rows=rows,
        looks=[results.kind(name) for name in order],
        kind="heat",
    )


def _height(cell: Cell) -> float:
    return LAST if cell.value is None else cell.value


def _columns(results: Results) -> list[Column]:
    table = results.scores()
    overall = ColumnHead(
        "Overall", meaning="The mean of the protocols, each the mean of its datasets"
    )
    found = [Column(overall, table)]
    meaning = "The mean of the datasets, each the mean of its levels"
    for place, name in enumerate(results.protocols):
        head = ColumnHead(PROTOCOLS[name], meaning=meaning, look="" if place else NEW_GROUP)
        found.append(Column(head, table[table["protocol"] == name]))
    known = set(table["dataset"])
    meaning = "The mean of the protocols on this dataset"
    for place, name in enumerate(name for name in results.datasets if name in known):
        head = ColumnHead(name, meaning=meaning, look="" if place else NEW_GROUP)
        found.append(Column(head, table[table["dataset"] == name]))
    return found


def _score(scores: pd.DataFrame, method: str) -> Cell:
    """Return a square: hatched if all tasks failed, marked if some did or were not run."""
    table = scores[scores["method"] == method]
    good = table[table["score"].notna()]
    if set(table["protocol"]) != set(scores["protocol"]):
        return Cell(NOTHING)  # it is not for all of them: a mean of some would be another mean
    note = what_lacks(scores, table)
    if good.empty:
        return Cell("failed", look=HATCHED, note=note)
    value = float(mean_by(good, "method").iloc[0])
    text = f"{round(value, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")
    return marked(Cell(text, value, shade=value), note)


def _calibration(results: Results) -> tuple[ColumnHead, dict[str, Cell]]:
    meaning = "Expected calibration error within datasets: 0 is best"
    cells = _means(results.scores("ece", "within_dataset"), lambda value: 1 - value / MOST_ECE)
    return ColumnHead("ECE", meaning=meaning, look=NEW_GROUP), cells


def _novelty(results: Results) -> tuple[ColumnHead, dict[str, Cell]]:
    meaning = "AUROC of novelty, frequent types left out in turn: 1 is best, 0.5 is chance"
    cells = _means(results.scores("novelty_auroc", "new_type"), lambda value: 2 * value - 1)
    return ColumnHead("Novelty", meaning=meaning), cells


def _means(scores: pd.DataFrame, shade: Callable[[float], float]) -> dict[str, Cell]:
    """Return the mean of each method, marked if it lacks a score."""
    found = {}
    for name, value in mean_by(scores, "method").dropna().items():
        note = what_lacks(scores, scores[scores["method"] == name])
        found[str(name)] = marked(Cell(f"{value:.2f}", value, shade=shade(value)), note)
    return found


def _costs(results: Results) -> list[tuple[ColumnHead, dict[str, Cell]]]:
    """Time and memory: dark is little, on a logarithmic scale."""
    costs = cost_of(results, results.protocols[0])
    time = ColumnHead(
        "Time", meaning="Seconds per 1,000 cells, learned from and named: less is better"
    )
    peak = ColumnHead("Memory", meaning="Largest memory of a run: less is better")
    found = []
    for head, name, form in ((time, "seconds_per_1000", duration), (peak, "peak_mb", memory)):
        values = costs[name].dropna()
        shades = _little_is_dark(values)
        found.append(
            (
                head,
                {
                    str(method): Cell(form(value), value, shade=shade)
                    for method, value, shade in zip(values.index, values, shades, strict=True)
                },
            )
        )
    return found


def _little_is_dark(values: pd.Series) -> pd.Series:
    logs = np.log(values.clip(lower=1e-3))
    span = logs.max() - logs.min()
    return (logs.max() - logs) / span if span > 0 else logs * 0 + 1
