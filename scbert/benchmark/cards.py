"""Cards of the benchmark's page: its datasets, methods and metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from scbert.benchmark.page_tables import Cell, Table, heads, number, words
from scbert.benchmark.results import Results
from scbert.cells.quality import FileQuality
from scbert.config import Dataset, Protocols
from scbert.files import read_json
from scbert.report.text import NOTHING, percent
from scbert.tables import read_table

NOT_STATED = "not stated"
METRIC_CARDS = (
    (
        "Macro F1",
        "The mean of the types' F1, so that a rare type counts as much as a common one. The main "
        "score. All folds of a dataset and seed are scored together.",
        "0 to 1; higher is better",
    ),
    (
        "Control-scaled score",
        "(Macro F1 - that of random types) / (1 - that of random types).",
        "0: as random types; 1: perfect",
    ),
    ("Accuracy", "The share of cells with the right label.", "0 to 1; higher is better"),
    ("Balanced accuracy", "The mean of the types' recall.", "0 to 1; higher is better"),
    (
        "ECE",
        "Expected calibration error: how far confidence is from accuracy, over bins of cells.",
        "0 to 1; lower is better",
    ),
    (
        "AUROC of novelty",
        "The chance that a cell of a type that was left out of training gets a higher novelty than "
        "another cell.",
        "0.5: chance; 1: perfect",
    ),
    (
        "Time per 1,000 cells",
        "Wall time of learning and naming, divided by the cells of both.",
        "lower is better",
    ),
    (
        "Largest memory",
        "Peak resident memory of a run, that of its largest process.",
        "lower is better",
    ),
)


def datasets_cards(
    results: Results,
    qualities: Sequence[FileQuality],
    datasets: Mapping[str, Dataset],
    protocols: Protocols,
    versions: Mapping[str, str],
) -> Table:
    """Return a line for each file of cells, with the types that are too rare to be asked about.

    Parameters
    ----------
    qualities
        What rule read_counts wrote of each: results/counts/NAME.json.
    datasets
        The table of datasets, which says what no file does: licence, and where labels come from.
    versions
        SHA-256 of a file or archive -> which of the versions of a dataset it is.
    """
    rows = []
    for quality in qualities:
        told = datasets.get(quality["sample"])
        start = _cells_and_types(quality, protocols.min_cells_per_type)
        folds = _folds_of_batches(results, quality["sample"])
        rows.append([*start, folds, *_origin(quality, told, versions)])
    names = ["Dataset", "Cells", "Types", "Cells of the rarest type", "Types left out", "Genes"]
    names += ["Batches", "Folds of batches"]
    ends = ["Labels from", "Licence", "Source", "SHA-256 of the source"]
    header = [*heads(names), *heads(ends, texts=len(ends))]
    return Table(
        name="datasets",
        caption="Datasets",
        heads=header,
        rows=rows,
        note=f"Left out are types of fewer than {protocols.min_cells_per_type} cells, with their "
        "cells (benchmark.protocols.min_cells_per_type). Where labels come from and the licence "
        "are as the table of datasets says. Under the source stands which version it is, where "
        "its SHA-256 is in config/benchmark/versions.tsv. SHA-256: the first 16 digits; the whole "
        "is in results/counts/NAME.json.",
    )


def _cells_and_types(quality: FileQuality, fewest: int) -> list[Cell]:
    types = quality["cell_types"]
    return [
        words(quality["sample"]),
        number(quality["cells_kept"], "{:,.0f}"),
        number(len(types), "{:.0f}"),
        _rarest(types),
        _left_out(types, fewest),
        number(quality["genes"], "{:,.0f}"),
        number(quality.get("batches"), "{:.0f}"),
    ]


def _origin(quality: FileQuality, told: Dataset | None, versions: Mapping[str, str]) -> list[Cell]:
    return [
        words((told and told.labels_from) or NOT_STATED),
        words((told and told.licence) or NOT_STATED),
        Cell(quality["source"], small=_version(quality, told, versions)),
        words(quality["sha256"][:16] + "…"),
    ]


def read_versions(path: Path) -> dict[str, str]:
    """Read the table of known versions of datasets, by SHA-256."""
    table = read_table(path, "sha256", "version")
    return dict(zip(table["sha256"], table["version"], strict=True))


def _version(quality: FileQuality, told: Dataset | None, versions: Mapping[str, str]) -> str:
    """Return which version a file is; an archive is known by what the table asked of it."""
    asked = told.sha256.lower() if told else ""
    return versions.get(quality["sha256"]) or versions.get(asked, "")


def _rarest(types: dict[str, int]) -> Cell:
    if not types:
        return Cell(NOTHING)
    name = min(types, key=lambda name: types[name])
    return Cell(f"{types[name]:,}", types[name], small=name)


def _left_out(types: dict[str, int], fewest: int) -> Cell:
    few = [name for name in types if types[name] < fewest]
    return number(len(few), "{:.0f}") if not few else Cell(str(len(few)), len(few), ", ".join(few))


def _folds_of_batches(results: Results, dataset: str) -> Cell:
    tasks = results.rooms.tasks
    tasks = tasks[(tasks["dataset"] == dataset) & (tasks["protocol"] == "across_batches")]
    folds = set(tasks["fold"][tasks["task"] != ""])
    return number(len(folds), "{:.0f}") if folds else Cell(NOTHING)


def methods_cards(folders: Sequence[Path], results: Results) -> Table:
    """Return how each method is set, and the versions that it ran with."""
    rows = []
    for name, method in results.methods.items():
        parts = [f"{package} {found}" for package, found in _versions(folders, name).items()]
        rows.append(
            [
                words(method.title),
                words(name),
                words(method.kind),
                words(method.setting),
                words(method.options or NOTHING),
                words(", ".join(parts) or NOTHING),
            ]
        )
    header = heads(["Method", "Name", "Kind", "Setting", "Options", "Versions"], texts=6)
    return Table(
        name="methods",
        caption="Methods",
        heads=header,
        rows=rows,
        looks=[method.kind for method in results.methods.values()],
        kind="long",
    )


def _versions(folders: Sequence[Path], method: str) -> dict[str, str]:
    """Return the versions of packages, of one run in each folder; several if they differ."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        run = next(iter(sorted((folder / "runs" / method).glob("*.json"))), None)
        for package, version in (read_json(run)["versions"] if run else {}).items():
            seen = found.setdefault(package, [])
            if version not in seen and version != "not found":
                seen.append(version)
    return {package: " and ".join(seen) for package, seen in found.items() if seen}


def metrics_cards(level: float) -> Table:
    """Return what each score means."""
    return Table(
        name="metrics",
        caption="Scores",
        heads=heads(["Score", "Meaning", "Range"], texts=3),
        rows=[[words(part) for part in card] for card in METRIC_CARDS],
        note=f"Intervals are at {percent(level)}: of t over datasets for a difference on two or "
        "more; else the mean over seeds of the bootstrap over cells, or t over seeds where that is "
        "wider. Scores of probabilities, and those of new types, have none.",
    )
