"""Checks of whether the benchmark itself can be believed, with a severity from 0 to 3.

0: as it should be; 1: to keep in mind; 2: doubtful; 3: wrong, do not use the numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scbert.benchmark.page_tables import Cell, Table, heads, words
from scbert.benchmark.results import Results
from scbert.benchmark.statistics import FEWEST_DATASETS, RANDOM
from scbert.benchmark.task_files import read_tasks, sha256_of_cells
from scbert.tables import read_table

MEANINGS = ("as it should be", "keep in mind", "doubtful", "wrong")
FEWEST_SEEDS = 3
MANY = 0.25  # of the runs of a method
MAJORITY, SIMPLE = "majority", "logistic_regression"


@dataclass(frozen=True)
class Check:
    """What was checked, how bad it is, and what was found."""

    name: str
    severity: int
    found: str


def check_benchmark(folders: Sequence[Path], results: Results) -> list[Check]:
    """Check the runs, the seeds, the controls and the tasks.

    Parameters
    ----------
    folders
        Those of the datasets and seeds, DATASET/seedS.
    """
    return [
        _runs(results),
        _seeds(results),
        _datasets(results),
        _skipped(results),
        _numbers(results),
        _controls(results),
        _same_cells(results),
        *_tasks(folders),
    ]


def _runs(results: Results) -> Check:
    lines = results.long.drop_duplicates(["dataset", "protocol", "level", "seed", "method"])
    failed = lines["exit"] != 0
    if not failed.any():
        return Check("Runs that failed", 0, f"None of {len(lines)} scores is missing.")
    shares = failed.groupby(lines["method"]).mean()
    often = [results.title(str(name)) for name, share in shares.items() if share > MANY]
    found = f"{failed.sum()} of {len(lines)} scores are missing"
    found += f"; more than a quarter of those of {', '.join(often)}" if often else ""
    return Check("Runs that failed", 2 if often else 1, found + ".")


def _seeds(results: Results) -> Check:
    seeds = results.rooms.scores.groupby("dataset")["seed"].agg(lambda found: len(set(found)))
    fewest, most = int(seeds.min()), int(seeds.max())
    if fewest != most:
        return Check("Seeds", 2, f"Datasets have {fewest} to {most} seeds.")
    if fewest == 1:
        return Check("Seeds", 2, "One seed: no interval shows what chance does between runs.")
    severity = 1 if fewest < FEWEST_SEEDS else 0
    return Check("Seeds", severity, f"Each dataset has {fewest} seeds.")


def _datasets(results: Results) -> Check:
    n = len(results.datasets)
    few = f", fewer than the {FEWEST_DATASETS} that ranks need" if n < FEWEST_DATASETS else ""
    return Check("Datasets", int(n < FEWEST_DATASETS), f"{n} datasets or pairs of them{few}.")


def _skipped(results: Results) -> Check:
    tasks = results.rooms.tasks
    skipped = tasks[tasks["skipped"] != ""]
    if skipped.empty:
        return Check("Tasks that a dataset does not allow", 0, "None.")
    lines = skipped.drop_duplicates(["dataset", "protocol", "skipped"]).to_dict("records")
    found = [f"{x['dataset']}, {x['protocol'].replace('_', ' ')}: {x['skipped']}" for x in lines]
    return Check("Tasks that a dataset does not allow", 1, "; ".join(found) + ".")


def _numbers(results: Results) -> Check:
    values = results.long["value"].dropna()
    outside = int(((values < 0) | (values > 1)).sum())
    found = f"{outside} of {len(values)} scores are outside 0 to 1."
    return Check("Scores between 0 and 1", 3 if outside else 0, found)


def _controls(results: Results) -> Check:
    """Random types are worse than the most frequent one, and that than a simple method."""
    name = "Order of the controls by accuracy"
    table = results.scores("accuracy", "within_dataset")
    grid = table.pivot_table(index="dataset", columns="method", values="value")
    order = [method for method in (RANDOM, MAJORITY, SIMPLE) if method in grid]
    if len(order) < 3:
        return Check(name, 1, f"Needs {RANDOM}, {MAJORITY} and {SIMPLE}; run were {len(order)}.")
    lacking = grid.index[grid[order].isna().any(axis=1)]
    grid = grid[order].dropna()
    if grid.empty:
        return Check(name, 1, "No dataset has the scores of all three.")
    floors = grid[MAJORITY] > grid[RANDOM]
    learnt = grid[SIMPLE] > grid[MAJORITY]
    if not learnt.all():
        where = ", ".join(grid.index[~learnt])
        return Check(name, 3, f"Logistic regression is no better than the most frequent: {where}.")
    if not floors.all():
        where = ", ".join(grid.index[~floors])
        return Check(name, 2, f"Random types are better than the most frequent one: {where}.")
    if len(lacking):
        found = "As it should be where all three have scores; one of them has none in "
        return Check(name, 1, f"{found}{', '.join(lacking)}.")
    return Check(name, 0, "Random, most frequent, logistic regression, on each dataset.")


def _same_cells(results: Results) -> Check:
    """Each method was scored on as many cells; that they are the same is certain before.

    `read_answers` takes a table of exactly the cells asked about, in their order; another one is a
    failure, which has no score.
    """
    lines = results.long[results.long["cells"].notna()]
    counts = lines.groupby(["dataset", "protocol", "level", "seed"])["cells"].nunique()
    odd = counts[counts > 1]
    found = (
        "Only answers to exactly the cells asked about are scored; others count as failed. "
        f"{len(odd)} of {len(counts)} comparisons are of unequal numbers of cells."
    )
    return Check("Scored cells, the same for all methods", 3 if len(odd) else 0, found)


def _tasks(folders: Sequence[Path]) -> list[Check]:
    """Compare the files of the tasks with their table: which cells were asked about."""
    changed, shared, n = [], [], 0
    for folder in folders:
        for line in read_tasks(folder / "tasks").to_dict("records"):
            n += 1
            table = read_table(folder / "tasks" / f"{line['task']}.tsv", "row", "cell", "part")
            query = table[table["part"] == "query"]
            name = f"{folder.parent.name}/{folder.name}/{line['task']}"
            changed += [name] if sha256_of_cells(query["cell"]) != line["query_sha256"] else []
            both = set(query["row"]) & set(table["row"][table["part"] == "learned"])
            shared += [name] if both else []
    return [
        _listed("Cells asked about, by checksum", changed, f"those of {n} tasks are as recorded"),
        _listed("No cell both learned from and asked about", shared, f"none in {n} tasks"),
    ]


def _listed(name: str, wrong: list[str], right: str) -> Check:
    if not wrong:
        return Check(name, 0, right[0].upper() + right[1:] + ".")
    return Check(name, 3, f"Not so in {len(wrong)} tasks, such as {wrong[0]}.")


def checks_table(checks: list[Check]) -> Table:
    """Return the checks, the worst first."""
    rows = [
        [
            words(one.name),
            Cell(f"{one.severity}: {MEANINGS[one.severity]}", one.severity),
            words(one.found),
        ]
        for one in sorted(checks, key=lambda one: -one.severity)
    ]
    return Table(
        name="checks",
        caption="Checks of the benchmark itself",
        heads=heads(["Check", "Severity", "Found"], texts=3),
        rows=rows,
    )
