"""Mixing of batches and separation of types in vectors of cells: the table of the page.

Bio conservation and batch correction are means of metrics from 0 to 1; total = 0.6 x bio
conservation + 0.4 x batch correction: Luecken et al. 2022, Nature Methods 19, 41-50.
"""

from collections.abc import Sequence
from pathlib import Path

from scbert.benchmark.page_tables import ColumnHead, Table, heads, number, words
from scbert.tables import read_table

COLUMNS = ("dataset", "embedding", "metric", "value")
FEWEST_BATCHES = 2
TITLES = {
    "scbert": "scBERT's encoder",
    "pca": "Principal components",
    "harmony": "Harmony on these components",
}
SUMS = ("Bio conservation", "Batch correction", "Total")


def mixing_table(files: Sequence[Path]) -> Table | None:
    """Return the table; None if nothing was measured."""
    lines = [line for file in files for line in read_table(file, *COLUMNS).to_dict("records")]
    if not lines:
        return None
    found = {(one["dataset"], one["embedding"], one["metric"]): one["value"] for one in lines}
    metrics = list(dict.fromkeys([*SUMS, *(one["metric"] for one in lines)]))
    places = {(one["dataset"], one["embedding"]) for one in lines}
    rows = [
        [
            words(dataset),
            words(title),
            *(number(float(found[dataset, name, metric])) for metric in metrics),
        ]
        for dataset in dict.fromkeys(one["dataset"] for one in lines)
        for name, title in TITLES.items()
        if (dataset, name) in places
    ]
    return Table(
        name="mixing",
        caption="Batches and types in vectors of cells",
        heads=[*heads(["Dataset", "Vectors"], texts=2), *(ColumnHead(name) for name in metrics)],
        rows=rows,
        note="Higher is better. Total = 0.6 x bio conservation + 0.4 x batch correction, each the "
        "mean of its metrics (Luecken et al. 2022, by scib-metrics), not scaled by the best and "
        "worst of them. The encoder and the components are told no batch; Harmony is.",
    )
