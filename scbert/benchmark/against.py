"""Comparison of a benchmark run with an earlier run and with the published scores of others.

Two runs are compared by the scores of each method, and cell by cell: what each method called each
cell is one table.
"""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from scbert.benchmark.page_tables import Cell, ColumnHead, Table, difference, heads, number, words
from scbert.benchmark.results import PROTOCOLS, Results, mean_by
from scbert.benchmark.score import asked, read_folds
from scbert.benchmark.statistics import MAIN, is_part
from scbert.benchmark.summary import MEANS, WHERE
from scbert.benchmark.task_files import dataset_and_seed, read_tasks
from scbert.files import read_json
from scbert.tables import read_table

DATA = "benchmark.json"
CHANGED = "changed"  # class of a row
HEADS = ("Method", "Dataset", "Macro F1", "Before", "Difference")
OF_CELLS = ("Cells of both", "Named otherwise", "Became right", "Became wrong")
LABELS = "labels.tsv.gz"  # the file of all of them
LABEL_COLUMNS = ("dataset", "seed", "task", "method", "cell", "true", "label")
KEYS = list(LABEL_COLUMNS[:5])
PUBLISHED = ("dataset", "protocol", "method", "accuracy", "macro_f1", "split", "source")
SCORES = ("accuracy", "macro_f1")
HERE = "this run"


@dataclass(frozen=True)
class RunComparison:
    """One line for each method and dataset of both runs.

    Columns method, dataset, now, before (mean macro F1 over the levels and protocols that both
    have, seeds averaged), difference, and those of `changed_labels`.
    """

    table: pd.DataFrame

    @property
    def changed(self) -> pd.Series:
        """Whether a score or a label of a line has changed."""
        return (self.table["difference"] != 0) | (self.table["changed"] > 0)


def compare_with(crate: Path, results: Results, folders: Sequence[Path]) -> RunComparison:
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
    return RunComparison(table.merge(cells, on=list(keys), how="inner"))


def judge_comparison(found: RunComparison) -> str:
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


def comparison_table(found: RunComparison, results: Results) -> Table:
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


def all_labels(folders: Sequence[Path], methods: Sequence[str]) -> pd.DataFrame:
    """Return the labels of all datasets and seeds, with the columns of `LABEL_COLUMNS`, as text.

    Parameters
    ----------
    folders
        DATASET/seedS, see `labels_of`.
    """
    tables = [table for folder in folders for table in _labels_of(folder, list(methods))]
    return (
        pd.concat(tables)[list(LABEL_COLUMNS)]
        if tables
        else pd.DataFrame(columns=list(LABEL_COLUMNS))
    )


def _labels_of(folder: Path, methods: list[str]) -> Iterator[pd.DataFrame]:
    """Yield the labels that each method gave to the cells of each task; none where it failed.

    Parameters
    ----------
    folder
        As for `read_folds`.
    """
    dataset, seed = dataset_and_seed(folder)
    for task in read_tasks(folder / "tasks")["task"]:
        for method in asked(folder, [task], methods):
            (fold,) = read_folds(folder, [task], method)
            if fold.answers:
                cells = {"cell": fold.cells.query, "true": fold.cells.true}
                table = pd.DataFrame(cells | {"label": fold.answers.label})
                yield table.assign(dataset=dataset, seed=seed, task=task, method=method)


def changed_labels(now: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Return, for each method and dataset, how many of the cells of both runs are called otherwise.

    Parameters
    ----------
    now, before
        Tables of two runs with the columns of `LABEL_COLUMNS`, as text.

    Returns
    -------
    Columns method, dataset, cells (asked about in both runs), changed, became_right, became_wrong.
    """
    both = now.merge(before, on=KEYS, suffixes=("", "_before"))
    both["changed"] = both["label"] != both["label_before"]
    both["became_right"] = both["changed"] & (both["label"] == both["true"])
    both["became_wrong"] = both["changed"] & (both["label_before"] == both["true"])
    grouped = both.groupby(["method", "dataset"], sort=False)
    counts = grouped[["changed", "became_right", "became_wrong"]].sum()
    counts.insert(0, "cells", grouped.size())
    return counts.reset_index()


def published_table(file: Path, results: Results) -> Table | None:
    """Return published scores and ours; None if none is of a dataset and protocol of this run.

    Parameters
    ----------
    file
        A table with the columns of `PUBLISHED`: config/benchmark/published.tsv.
    """
    known = read_table(file, *PUBLISHED)
    for name in SCORES:
        known[name] = [
            _score(file, line, name, text) for line, text in enumerate(known[name], start=2)
        ]
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
    header += [ColumnHead(name, number=False) for name in ("Split", "Source")]
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


def _score(file: Path, line: int, name: str, text: str) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        raise ValueError(
            f"{file} holds {text!r} as {name} in line {line}. Needed is a number, such as 0.76, or "
            "nothing where no such score was published."
        ) from None


def _published(line: Mapping[Hashable, str]) -> list[Cell]:
    scores = [number(float(line[name])) for name in SCORES]
    start = [words(line["dataset"]), words(PROTOCOLS[line["protocol"]]), words(line["method"])]
    return [*start, *scores, words(line["split"]), words(line["source"])]


def _ours(results: Results, dataset: str, protocol: str) -> pd.DataFrame:
    """Return the scores of whole methods, as they are; a line for each, a column for each score."""
    found = {}
    for metric in SCORES:
        table = results.scores(metric, protocol)
        found[metric] = mean_by(table[table["dataset"] == dataset], "method", column="value")
    return pd.DataFrame(found)
