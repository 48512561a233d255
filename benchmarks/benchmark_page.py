"""The results of `snakemake benchmark`, as a page of docs/results and a figure.

Run: python benchmarks/benchmark_page.py FOLDER [--note TEXT]
FOLDER is where the benchmark of config/benchmark.yaml ran. Writes docs/results/benchmark.md and
benchmark.svg. Nothing is computed here that results/benchmark.html does not show.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from benchmark_aims import WHOLE, shortfalls
from matplotlib.figure import Figure

from scbert.benchmark.against import published_table
from scbert.benchmark.claims import Verdict, compare_protocol
from scbert.benchmark.encoder import expert_verdict, pretraining_verdict
from scbert.benchmark.results import PROTOCOLS, Results, cost_of, mean_by
from scbert.benchmark.statistics import ScoreDifference, over_what
from scbert.benchmark.summary import read_rooms
from scbert.benchmark.transfers import judge_transfers
from scbert.config import load_methods
from scbert.config.benchmark import TRANSFERRED, name_of_pair
from scbert.evidence.bootstrap import Interval
from scbert.files import read_json
from scbert.report.style import BLUE, INK, MUTED, ORANGE, VERMILION, svg_figure
from scbert.report.text import difference_with_interval, table

CONFIG = Path(__file__).parent.parent / "config"
METHODS, PUBLISHED = CONFIG / "methods.tsv", CONFIG / "benchmark/published.tsv"
SHOWN = {  # method: colour and marker in the figure
    "scbert": (BLUE, "o"),
    "logistic_regression": (VERMILION, "D"),
    "linear_svm": (INK, "v"),
    "discriminant": (MUTED, "^"),
    "celltypist": (ORANGE, "s"),
}
NONE_PUBLISHED = (
    "Published scores: [published.tsv](../../config/benchmark/published.tsv) has none of a dataset "
    "and protocol of this page.\n"
)
HEAD = """# Benchmark: scBERT beside other methods, on seven studies

    snakemake --configfile config/benchmark.yaml -- benchmark
    python benchmarks/benchmark_page.py .

Written by these commands; do not edit. What is asked, of whom, and how it is scored:
[docs/benchmark.md](../benchmark.md). scBERT is `scbert finetune` and `scbert annotate` by default,
from an encoder that has seen none of these studies but one: a sample of Zheng68K's donor, which
pbmc68k_reduced is a part of (other cells). No setting was chosen by a score of this page. Two of
scBERT's, how far rare types are raised and the expert on scaled genes, came after first tables;
they were chosen within the cells that the first fold of seed 2021 of five studies (not panc8, not
pbmc68k_reduced) is learned from, which other folds and seeds ask about
([decisions](../decisions/experts.md)). The other methods have one setting for all data, too.
Cells of all folds are pooled and scored once. Types of fewer than ten cells take no part.
"""


def main() -> None:
    """Write the page and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--note", default="", help="what else a reader must know of these runs")
    options = parser.parse_args()
    found = results_in(options.folder)
    parts = [HEAD, options.note and f"{options.note}\n", overview(found)]
    parts += ["![Macro F1 of each method](benchmark.svg)\n", answers(found)]
    parts += [section(found, protocol) for protocol in found.protocols]
    parts += [
        scores_table(found, "ece", "Calibration error of the confidence", WHOLE),
        costs(found),
        "" if published_table(PUBLISHED, found) else NONE_PUBLISHED,
        shortfalls(found),
    ]
    (options.out / "benchmark.md").write_text("\n".join(filter(None, parts)))
    (options.out / "benchmark.svg").write_text(draw(found))


def results_in(folder: Path) -> Results:
    """Read the datasets and seeds of the last run, also of a version with other settings."""
    config = read_json(folder / "results/config.json")
    known = load_methods(METHODS)
    asked = config["benchmark"]
    sets = [*asked["datasets"], *map(name_of_pair, asked["transfers"])]
    folders = [
        folder / f"results/benchmark/{name}/seed{n}" for name in sets for n in asked["seeds"]
    ]
    methods = {name: known[name] for name in asked["chosen"] or known}
    return Results(read_rooms(folders), methods, config["evaluate"]["confidence_level"])


def overview(found: Results) -> str:
    """Return the mean macro F1 of each method over datasets, a column for each protocol."""
    means = {protocol: mean_of(found, protocol) for protocol in found.protocols}
    rows = {
        method: [number(values.get(method)) for values in means.values()]
        for method in found.methods
    }
    return (
        "Mean macro F1 over the datasets of each protocol, seed "
        f"{', '.join(map(str, found.seeds))}; a new type: AUROC of novelty.\n\n"
        + by_method(found, [PROTOCOLS[name].lower() for name in means], rows)
    )


def by_method(found: Results, heads: list[str], rows: dict[str, list[str]]) -> str:
    """Return a table with a line for each method that has any number, in their order."""
    lines = [[found.title(name), *rows[name]] for name in found.methods if any(rows.get(name, []))]
    return table(["method", *heads], lines, len(heads)) + "\n"


def mean_of(found: Results, protocol: str) -> pd.Series:
    """Return the mean of each method that has completed all tasks of a protocol."""
    metric = "novelty_auroc" if protocol == "new_type" else "macro_f1"
    scores = found.scores(metric, protocol)
    scores = scores[scores["method"].isin(found.complete(metric, protocol))]
    return mean_by(scores, "method", column="value")


def answers(found: Results) -> str:
    """Return what follows, a sentence for each protocol."""
    verdicts: list[Verdict | None] = [compare_protocol(found, name) for name in found.protocols]
    verdicts += [pretraining_verdict(found), expert_verdict(found)]
    return "\n".join(f"- {one.sentence}" for one in verdicts if one) + "\n"


def section(found: Results, protocol: str) -> str:
    """Return scores of all methods by dataset and level, and how far scBERT is from each."""
    metric = "novelty_auroc" if protocol == "new_type" else "macro_f1"
    title = f"{PROTOCOLS[protocol]}: {'AUROC of novelty' if protocol == 'new_type' else 'macro F1'}"
    gaps = {} if protocol == "new_type" else differences(found, protocol)
    if protocol == "few_labels":
        return by_level(found, f"{title}, mean over datasets", gaps)
    strange = judge_transfers(found) if protocol == TRANSFERRED else []
    notes = [f"{one}\n" for one in strange]
    return "\n".join([scores_table(found, metric, title, (protocol,), gaps), *notes])


def differences(found: Results, protocol: str) -> dict[str, str]:
    """Return scBERT's macro F1 minus that of each method, with its interval."""
    return {one.method: said(one) for one in found.compared(protocol)}


def said(one: ScoreDifference) -> str:
    """Return a difference and its interval, and of how many tasks it is if not of all."""
    some = f", {one.compared} of {one.asked} tasks" if one.compared < one.asked else ""
    if np.isnan(one.low):
        return f"{one.value:+.3f}{some}"
    ends = difference_with_interval(Interval(one.value, one.low, one.high))
    return f"{ends.removesuffix(')')}, {over_what(one.interval)}{some})"


def scores_table(
    found: Results,
    metric: str,
    title: str,
    protocols: tuple[str, ...],
    gaps: dict[str, str] | None = None,
) -> str:
    """Return a line for each method, a column for each dataset and level."""
    means = found.scores(metric)
    means = means[means["protocol"].isin(protocols)]
    where = ["protocol", "dataset", "level"]
    keys = list(dict.fromkeys(means[where].itertuples(index=False, name=None)))
    heads = [", ".join(_named(key, alone=len(protocols) == 1)) for key in keys]
    return titled(found, title, heads, means.set_index(["method", *where])["value"], keys, gaps)


def titled(
    found: Results,
    title: str,
    heads: list[str],
    scores: pd.Series,
    keys: list[tuple[str, ...]],
    gaps: dict[str, str] | None,
) -> str:
    """Return a section: scores of each method by key, and how far scBERT is from it."""
    rows = {
        method: [number(scores.get((method, *key))) for key in keys] for method in found.methods
    }
    heads = [head.replace("_", " ") for head in heads]
    if gaps:
        heads.append("scBERT minus it")
        rows = {name: [*row, gaps.get(name, "")] for name, row in rows.items()}
    return f"## {title}\n\n{by_method(found, heads, rows)}"


def _named(key: tuple[str, str, str], *, alone: bool) -> list[str]:
    """Return what a column is called: the dataset, and what is not the same in all columns."""
    protocol, dataset, level = key
    return [dataset, *([] if alone else [PROTOCOLS[protocol].lower()]), *({level} - {"all", ""})]


def by_level(found: Results, title: str, gaps: dict[str, str]) -> str:
    """Return the mean over datasets, a column for each level; empty where one has no score."""
    scores = found.scores(protocol="few_labels")
    means = scores.groupby(["method", "level"])["value"].agg(lambda one: one.mean(skipna=False))
    levels = [level for _, level in sorted({(len(one), one) for one in scores["level"]})]
    return titled(found, title, levels, means, [(level,) for level in levels], gaps)


def costs(found: Results) -> str:
    """Return time and memory of each method within a dataset."""
    rows = {
        str(method): [
            *(f"{row.seconds_per_1000:.1f}", f"{row.cpu_seconds_per_1000:.1f}"),
            f"{row.peak_mb:,.0f}",
        ]
        for method, row in cost_of(found, "within_dataset").iterrows()
    }
    heads = ["s per 1,000 cells", "processor s per 1,000 cells", "largest memory, MB"]
    return f"## Time and memory, within a dataset\n\n{by_method(found, heads, rows)}"


def number(value: float | None) -> str:
    """Return a score; a method that failed or was not asked has none."""
    return "" if value is None or np.isnan(value) else f"{value:.3f}"


@svg_figure
def draw(found: Results) -> Figure:
    """Draw macro F1 of some methods, a group of rows for each dataset."""
    scores = found.scores()
    scores = scores[scores["protocol"].isin(WHOLE)]
    rows = list(dict.fromkeys(zip(scores["protocol"], scores["dataset"], strict=True)))
    figure = Figure(figsize=(7.6, 0.8 + 0.55 * len(rows)), layout="constrained")
    axes = figure.subplots()
    offsets = np.linspace(-0.3, 0.3, len(SHOWN))
    for offset, (method, (colour, marker)) in zip(offsets, SHOWN.items(), strict=True):
        own = scores[scores["method"] == method].set_index(["protocol", "dataset"])
        own = own.reindex(pd.MultiIndex.from_tuples(rows))
        ends = np.maximum([own["value"] - own["low"], own["high"] - own["value"]], 0)
        height = np.arange(len(rows)) + offset
        axes.errorbar(
            own["value"],
            height,
            xerr=ends,
            color=colour,
            fmt=marker,
            label=found.title(method),
        )
    named = [f"{dataset.replace('_', ' ')}\n{PROTOCOLS[name].lower()}" for name, dataset in rows]
    axes.set_yticks(range(len(rows)), named)
    axes.invert_yaxis()
    axes.set_xlabel("macro F1 on cells that were held out, with 95 % interval")
    axes.grid(visible=True, axis="x")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


if __name__ == "__main__":
    main()
