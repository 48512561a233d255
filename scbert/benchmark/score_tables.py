"""Tables of the benchmark's page that show scores and costs."""

from collections.abc import Callable, Sequence

import pandas as pd

from scbert.benchmark.page_tables import (
    HATCHED,
    Cell,
    Table,
    heads,
    number,
    with_interval,
    words,
)
from scbert.benchmark.results import PROTOCOLS, Results, cost_of, mean_by
from scbert.benchmark.statistics import MAIN, is_part
from scbert.report.text import METRICS, NOTHING, duration, memory

COST = (
    *("Method", "Score", "Time per 1,000 cells", "Processor time per 1,000 cells"),
    *("Largest memory", "Of a GPU"),
)
LEVELS = ("few_labels", "class_imbalance", "label_noise")  # protocols with several levels


def cost_table(results: Results, protocol: str) -> Table:
    """Return score, times and memory of each method in a protocol."""
    costs = cost_of(results, protocol).to_dict("index")
    score = mean_by(results.scores(protocol=protocol), "method")
    order = [name for name in results.methods if name in costs]
    return Table(
        name="cost",
        caption=f"Score and cost: {PROTOCOLS[protocol].lower()}",
        heads=heads(COST),
        rows=[
            [
                words(results.title(name)),
                number(score.get(name)),
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
        "AUROC of novelty": ("novelty_auroc", results.scores("novelty_auroc", "new_type")),
        "Macro F1 of the types it knows": (MAIN, results.scores(MAIN, "new_type")),
    }
    found = {name: mean_by(table, "method", column="value") for name, (_, table) in columns.items()}
    methods = [
        name for name in results.methods if any(name in each.index for each in found.values())
    ]
    return Table(
        name="novelty",
        caption="A new type, left out in turn",
        heads=heads(["Method", *found]),
        rows=[
            [words(results.title(name)), *(number(each.get(name)) for each in found.values())]
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
        return with_interval(*(float(good[name].iloc[0]) for name in ("value", "low", "high")))
    left_out = len(lines) - len(good)
    note = f"{left_out} of {len(lines)} failed" if left_out else ""
    value = float(good["value"].mean())
    return Cell(f"{value:.3f}", value, note=note, look="partly" if note else "")


def parts_table(results: Results) -> Table | None:
    """Return the scores of the parts of methods, which are in no rank; None without parts."""
    table = results.means[results.means["method"].map(is_part)]
    if table.empty:
        return None
    found = {metric: table[table["metric"] == metric] for metric in METRICS}
    protocols = [name for name in results.protocols if name in set(table["protocol"])]
    rows = []
    for method in dict.fromkeys(table["method"]):
        for protocol in protocols:
            row = [words(results.title(method)), words(PROTOCOLS[protocol])]
            for lines in found.values():
                mine = lines[(lines["method"] == method) & (lines["protocol"] == protocol)]
                row.append(number(_mean(mine)))
            rows.append(row)
    return Table(
        name="parts",
        caption="Parts of methods, each alone",
        heads=heads(["Part", "Protocol", *METRICS.values()], texts=2),
        rows=rows,
    )


def _mean(lines: pd.DataFrame) -> float | None:
    if lines.empty:
        return None
    return float(mean_by(lines, "method", column="value").iloc[0])
