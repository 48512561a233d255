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
from scbert.benchmark.score import KEYS, asked, read_folds
from scbert.benchmark.statistics import MAIN, is_part
from scbert.benchmark.summary import COLUMNS
from scbert.benchmark.task_files import dataset_and_seed, read_tasks
from scbert.files import read_json
from scbert.tables import read_table

DATA = "benchmark.json"
CHANGED = "changed"  # class of a row
HEADS = ("Method", "Dataset", "Macro F1", "Before", "Difference", "Failed now", "Failed before")
OF_CELLS = ("Cells of both", "Named otherwise", "Became right", "Became wrong")
LABELS = "labels.tsv.gz"  # the file of all of them
LABEL_COLUMNS = ("dataset", "seed", "task", "method", "cell", "true", "label")
CELL = list(LABEL_COLUMNS[:5])
PUBLISHED = ("dataset", "protocol", "method", "accuracy", "macro_f1", "split", "source")
SCORES = ("accuracy", "macro_f1")
HERE = "this run"


@dataclass(frozen=True)
class RunComparison:
    """One line for each method and dataset of both runs.

    Columns method, dataset, now, before (mean macro F1 of what has a score in both runs: the same
    protocol, level and seed), difference, failed and mended (scores that only the earlier and only
    this run has, for the other failed), and those of `changed_labels`. `alone` scores are of what
    one run alone asked.
    """

    table: pd.DataFrame
    alone: int

    @property
    def changed(self) -> pd.Series:
        """Whether a score or a label of a line has changed, or is not there any more."""
        counts = self.table[["changed", "failed", "mended"]]
        return (self.table["difference"].fillna(0) != 0) | (counts > 0).any(axis=1)


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
        If the runs did not ask any method the same, or no cell has a label in both.
    """
    before = pd.DataFrame(read_json(crate / DATA)["scores"], columns=list(COLUMNS))
    both, alone = _of_both(_main(results.long), _main(before))
    labels = all_labels(folders, list(results.methods)).astype(str)
    cells = changed_labels(labels, read_table(crate / LABELS, *labels.columns))
    if both.empty or cells.empty:
        raise ValueError(
            f"{crate} has no method, dataset and seed in common with this run, or no cell that "
            "both have named: there is nothing to compare. Name the benchmark_crate of a run of "
            "the same datasets and seeds, or leave benchmark.against empty."
        )
    table = _compared(both).reset_index().merge(cells, on=["method", "dataset"], how="left")
    counts = list(cells.columns.drop(["method", "dataset"]))
    return RunComparison(table.fillna(dict.fromkeys(counts, 0)), alone)


def _main(table: pd.DataFrame) -> pd.DataFrame:
    whole = table[(table["metric"] == MAIN) & ~table["method"].map(is_part)]
    return whole[[*KEYS, "value"]].assign(value=pd.to_numeric(whole["value"]))


def _of_both(now: pd.DataFrame, before: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the scores that both runs were asked for, and how many only one of them was."""
    every = now.merge(
        before, on=list(KEYS), suffixes=("", "_before"), how="outer", indicator=True, sort=False
    )
    both = every["_merge"] == "both"
    return every[both], int((~both).sum())


def _compared(both: pd.DataFrame) -> pd.DataFrame:
    """Return the means of now and before, by method and dataset, and what one of them lacks."""
    now, before = both["value"].notna(), both["value_before"].notna()
    grouped = both.assign(failed=before & ~now, mended=now & ~before).groupby(["method", "dataset"])
    table = grouped[["failed", "mended"]].sum()
    for name, column in (("now", "value"), ("before", "value_before")):
        table[name] = mean_by(both[now & before], "method", "dataset", column=column)
    table["difference"] = table["now"] - table["before"]
    return table


def judge_comparison(found: RunComparison) -> str:
    """Return what has changed, in some sentences."""
    table, parts = found.table, []
    if not found.changed.any():
        cells = int(table["cells"].sum())
        parts.append(f"Nothing has changed: all {cells:,} labels and all scores are the same.")
    elif table["changed"].any() or table["difference"].any():
        parts.append(_of_labels(table))
        if len(known := table.dropna(subset="difference")):
            most = known.iloc[int(known["difference"].abs().to_numpy().argmax())]
            parts.append(
                f"The largest difference of macro F1 is {most['difference']:+.3f}, of "
                f"{most['method']} on {most['dataset']}."
            )
    for name, words_of in (("failed", "lack now, for the method failed"), ("mended", "are new")):
        lines = table[table[name] > 0]
        if len(lines):
            where = ", ".join(f"{x['method']} on {x['dataset']}" for x in lines.to_dict("records"))
            parts.append(f"{int(lines[name].sum())} scores {words_of}: {where}.")
    if found.alone:
        parts.append(f"{found.alone} scores that one run alone asked for are not compared.")
    return " ".join(parts)


def _of_labels(table: pd.DataFrame) -> str:
    sums = table[["changed", "cells", "became_right", "became_wrong"]].sum().astype(int)
    return (
        f"{sums['changed']:,} of {sums['cells']:,} labels are others than before: "
        f"{sums['became_right']:,} became right, {sums['became_wrong']:,} became wrong."
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
            *(number(line[name], "{:,.0f}") for name in ("failed", "mended")),
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
        note="Macro F1: means over the protocols, levels and seeds in which both runs have a "
        "score; failed are scores that only the other run has. A cell counts once for each task, "
        "seed and method that named it.",
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
    both = now.merge(before, on=CELL, suffixes=("", "_before"))
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
