"""Tables of the benchmark's page that show scores and costs."""

from collections.abc import Callable, Sequence

import pandas as pd

from scbert.benchmark.page_tables import (
    HATCHED,
    Cell,
    Table,
    heads,
    marked,
    number,
    with_interval,
    words,
)
from scbert.benchmark.results import PROTOCOLS, Results, cost_of, mean_by, n_tasks, what_lacks
from scbert.benchmark.statistics import is_part
from scbert.report.text import METRICS, NOTHING, duration, memory

COST = (
    *("Method", "Score", "Time per 1,000 cells", "Processor time per 1,000 cells"),
    *("Largest memory", "Of a GPU"),
)
LEVELS = ("few_labels", "class_imbalance", "label_noise")  # protocols with several levels


def cost_table(results: Results, protocol: str) -> Table:
    """Return score, times and memory of each method in a protocol."""
    costs = cost_of(results, protocol).to_dict("index")
    scores = results.scores(protocol=protocol)
    order = [name for name in results.methods if name in costs]
    return Table(
        name="cost",
        caption=f"Score and cost: {PROTOCOLS[protocol].lower()}",
        heads=heads(COST),
        rows=[
            [
                words(results.title(name)),
                _mean(scores, scores[scores["method"] == name]),
                _cell(costs[name]["seconds_per_1000"], duration),
                _cell(costs[name]["cpu_seconds_per_1000"], duration),
                _cell(costs[name]["peak_mb"], memory),
                _cell(costs[name]["gpu_mb"], memory),
            ]
            for name in order
        ],
        looks=[results.kind(name) for name in order],
        note="Time is of learning and naming together, divided by the cells of both: wall time, "
        "and that of all processors together, which depends less on what else ran; memory is "
        "resident memory of the largest run, and that of a GPU where nvidia-smi is. Failed runs "
        "are left out.",
    )


def _cell(value: float, form: Callable[[float], str]) -> Cell:
    return Cell(NOTHING) if pd.isna(value) else Cell(form(value), float(value))


def levels_table(results: Results) -> Table | None:
    """Return macro F1 at each level of few labels, imbalance and noise; None if none was run."""
    tables = [results.scores(protocol=name) for name in LEVELS if name in results.protocols]
    if not tables:
        return None
    table = pd.concat(tables)
    names = [
        f"{PROTOCOLS[protocol]}: {level_title(level)}"
        for protocol, level in zip(table["protocol"], table["level"], strict=True)
    ]
    table["condition"] = names
    columns = list(dict.fromkeys(names))
    return _grid(results, table, columns, "levels", "Macro F1 under each condition", "condition")


def level_title(name: str) -> str:
    """Return the name of a level for the page."""
    return name.replace("_", " ").replace("percent", "%")


def novelty_table(results: Results) -> Table:
    """Return how well each method notices a type that it was not taught."""
    columns = {
        "AUROC of novelty": results.scores("novelty_auroc", "new_type"),
        "Macro F1 of the types it knows": results.scores(protocol="new_type"),
    }
    known = {name for table in columns.values() for name in table["method"]}
    methods = [name for name in results.methods if name in known]
    return Table(
        name="novelty",
        caption="A new type: frequent ones, left out in turn",
        heads=heads(["Method", *columns]),
        rows=[
            [
                words(results.title(name)),
                *(_mean(each, each[each["method"] == name], "value") for each in columns.values()),
            ]
            for name in methods
        ],
        looks=[results.kind(name) for name in methods],
        note="0.5 is chance. A method without probabilities has no novelty.",
    )


def datasets_table(results: Results, protocol: str) -> Table:
    """Return macro F1 of each method on each dataset, as it is and not scaled."""
    table = results.scores(protocol=protocol)
    datasets = list(dict.fromkeys(table["dataset"]))
    caption = f"{PROTOCOLS[protocol]}: macro F1 on each dataset"
    return _grid(results, table, datasets, f"scores-{protocol}", caption, "dataset")


def _grid(
    results: Results,
    table: pd.DataFrame,
    columns: Sequence[str],
    name: str,
    caption: str,
    key: str,
) -> Table:
    methods = [one for one in results.methods if one in set(table["method"])]
    return Table(
        name=name,
        caption=caption,
        heads=heads(["Method", *columns]),
        rows=[
            [
                words(results.title(method)),
                *(
                    _averaged(table[(table["method"] == method) & (table[key] == column)])
                    for column in columns
                ),
            ]
            for method in methods
        ],
        looks=[results.kind(method) for method in methods],
    )


def _averaged(lines: pd.DataFrame) -> Cell:
    """Return a score with its interval if it is one line, else the mean of the lines."""
    good = lines[lines["value"].notna()]
    if good.empty:
        reason = lines["reason"].iloc[0] if len(lines) else ""
        return Cell("failed", look=HATCHED, note=reason) if reason else Cell(NOTHING)
    if len(lines) == 1:
        one = with_interval(*(float(good[name].iloc[0]) for name in ("value", "low", "high")))
        return marked(one, what_lacks(lines, lines))
    return marked(number(float(good["value"].mean())), what_lacks(lines, lines))


def parts_table(results: Results) -> Table | None:
    """Return the scores of the parts of methods, which are in no rank; None without parts."""
    table = results.means[results.means["method"].map(is_part)]
    if table.empty:
        return None
    protocols = [name for name in results.protocols if name in set(table["protocol"])]
    rows = []
    for method in dict.fromkeys(table["method"]):
        for protocol in protocols:
            of_protocol = table[table["protocol"] == protocol]
            mine = of_protocol[of_protocol["method"] == method]
            own = n_tasks(mine)
            row = [words(results.title(method)), words(PROTOCOLS[protocol])]
            for metric in METRICS:
                lines = mine[mine["metric"] == metric]
                row.append(_mean(lines, lines, "value"))
            rows.append([*row, Cell(f"{own} of {n_tasks(of_protocol)}", own)])
    return Table(
        name="parts",
        caption="Parts of methods, each alone",
        heads=heads(["Part", "Protocol", *METRICS.values(), "Tasks"], texts=2),
        rows=rows,
        note="A part has scores of the tasks in which it answered alone: means of some of them are "
        "not to be held against means of all.",
    )


def _mean(asked: pd.DataFrame, mine: pd.DataFrame, column: str = "score") -> Cell:
    """Return the mean of a method over datasets and levels, marked if it lacks some."""
    if mine[column].isna().all():
        return Cell(NOTHING)
    mean = number(float(mean_by(mine, "method", column=column).iloc[0]))
    return marked(mean, what_lacks(asked, mine))
