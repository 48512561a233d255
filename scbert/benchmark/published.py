"""Published scores beside those of this run, where dataset and protocol are the same."""

from pathlib import Path
from typing import Any

import pandas as pd

from scbert.benchmark.page_tables import Cell, Head, Table, heads, number, words
from scbert.benchmark.results import PROTOCOLS, Results, mean_by
from scbert.tables import read_table

COLUMNS = ("dataset", "protocol", "method", "accuracy", "macro_f1", "split", "source")
SCORES = ("accuracy", "macro_f1")
HERE = "this run"


def published_table(file: Path, results: Results) -> Table | None:
    """Return published scores and ours; None if none is of a dataset and protocol of this run.

    Parameters
    ----------
    file
        A table with the columns of `COLUMNS`: config/benchmark/published.tsv.
    """
    known = read_table(file, *COLUMNS)
    rows, looks = [], []
    for (dataset, protocol), lines in known.groupby(["dataset", "protocol"], sort=False):
        ours = _ours(results, str(dataset), str(protocol))
        for method, ones in ours.to_dict("index").items():
            start = [words(dataset), words(PROTOCOLS[str(protocol)])]
            scores = [number(ones[name]) for name in SCORES]
            rows.append(
                [*start, words(results.title(str(method))), *scores, words(HERE), words("")]
            )
            looks.append(results.kind(str(method)))
        for line in lines.to_dict("records") if len(ours) else []:
            rows.append(_published(line))
            looks.append("")
    if not rows:
        return None
    header = [*heads(["Dataset", "Protocol", "Method", "Accuracy", "Macro F1"], texts=3)]
    header += [Head(name, number=False) for name in ("Split", "Source")]
    return Table(
        name="published",
        caption="Published scores beside these",
        heads=header,
        rows=rows,
        looks=looks,
        note="The same dataset and the same kind of protocol; splits, filters and versions of a "
        "file differ, so that a few hundredths between two sources say nothing.",
        kind="long",
    )


def _published(line: dict[Any, str]) -> list[Cell]:
    scores = [number(float(line[name]) if line[name] else None) for name in SCORES]
    start = [words(line["dataset"]), words(PROTOCOLS[line["protocol"]]), words(line["method"])]
    return [*start, *scores, words(line["split"]), words(line["source"])]


def _ours(results: Results, dataset: str, protocol: str) -> pd.DataFrame:
    """Return the scores of whole methods, as they are; a line for each, a column for each score."""
    found = {}
    for metric in SCORES:
        table = results.scores(metric, protocol)
        found[metric] = mean_by(table[table["dataset"] == dataset], "method", column="value")
    return pd.DataFrame(found)
