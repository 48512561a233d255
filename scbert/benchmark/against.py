"""An earlier run of the benchmark beside this one: scores by method, labels cell by cell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from scbert.benchmark.labels import LABELS, all_labels, changed_labels
from scbert.benchmark.page_tables import Table, difference, heads, number, words
from scbert.benchmark.results import Results, mean_by
from scbert.benchmark.statistics import MAIN, is_part
from scbert.benchmark.summary import MEANS, WHERE
from scbert.files import read_json
from scbert.tables import read_table

DATA = "benchmark.json"
CHANGED = "changed"  # class of a row
HEADS = ("Method", "Dataset", "Macro F1", "Before", "Difference")
OF_CELLS = ("Cells of both", "Named otherwise", "Became right", "Became wrong")


@dataclass(frozen=True)
class Comparison:
    """One line for each method and dataset of both runs.

    Columns method, dataset, now, before (mean macro F1 over the levels and protocols that both
    have, seeds averaged), difference, and those of `changed_labels`.
    """

    table: pd.DataFrame

    @property
    def changed(self) -> pd.Series:
        """Whether a score or a label of a line has changed."""
        return (self.table["difference"] != 0) | (self.table["changed"] > 0)


def compare_with(crate: Path, results: Results, folders: Sequence[Path]) -> Comparison:
    """Compare a run with an earlier one.

    Parameters
    ----------
    crate
        The folder results/benchmark_crate of the earlier run.
    folders
        Those of the datasets and seeds of this one, DATASET/seedS.

    Raises
    ------
    ValueError
        If the runs have no method and dataset in common.
    """
    means = pd.DataFrame(read_json(crate / DATA)["means"], columns=list(MEANS))
    now = results.means.merge(means, on=[*WHERE, "metric"], suffixes=("", "_before"))
    now = now[(now["metric"] == MAIN) & ~now["method"].map(is_part)]
    now = now[now["value"].notna() & now["value_before"].notna()]
    if now.empty:
        raise ValueError(
            f"{crate} has no method and dataset in common with this run: there is nothing to "
            "compare. Name the benchmark_crate of a run of the same datasets, or leave "
            "benchmark.against empty."
        )
    keys = ("method", "dataset")
    table = pd.DataFrame(
        {
            name: mean_by(now, *keys, column=column)
            for name, column in (("now", "value"), ("before", "value_before"))
        }
    ).reset_index()
    table["difference"] = table["now"] - table["before"]
    labels = all_labels(folders, list(results.methods)).astype(str)
    cells = changed_labels(labels, read_table(crate / LABELS, *labels.columns))
    return Comparison(table.merge(cells, on=list(keys), how="inner"))


def judge_comparison(found: Comparison) -> str:
    """Return what has changed, in a sentence or two."""
    table, cells = found.table, int(found.table["cells"].sum())
    if not found.changed.any():
        return f"Nothing has changed: all {cells:,} labels and all scores are the same."
    changed = table[found.changed]
    most = changed.iloc[int(changed["difference"].abs().to_numpy().argmax())]
    return (
        f"{int(table['changed'].sum()):,} of {cells:,} labels are others than before: "
        f"{int(table['became_right'].sum()):,} became right, "
        f"{int(table['became_wrong'].sum()):,} became wrong. The largest difference of macro F1 "
        f"is {most['difference']:+.3f}, of {most['method']} on {most['dataset']}."
    )


def comparison_table(found: Comparison, results: Results) -> Table:
    """Return the comparison for the page; lines in which something has changed are marked."""
    rows = [
        [
            words(results.title(line["method"])),
            words(line["dataset"]),
            number(line["now"]),
            number(line["before"]),
            difference(line["difference"], math.nan, math.nan),
            *(number(line[name], "{:,.0f}") for name in ("cells", "changed")),
            *(number(line[name], "{:,.0f}") for name in ("became_right", "became_wrong")),
        ]
        for line in found.table.to_dict("records")
    ]
    return Table(
        name="against",
        caption="This run beside the earlier one",
        heads=heads([*HEADS, *OF_CELLS], texts=2),
        rows=rows,
        note="Macro F1: means over the protocols and levels that both runs have. A cell counts "
        "once for each task, seed and method that named it.",
        looks=[CHANGED if one else "" for one in found.changed],
    )
