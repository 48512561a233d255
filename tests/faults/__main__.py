"""Run the faults: python -m tests.faults [inputs] [folders] [kills], all parts without a name.

What each part finds is kept in --to, and the page is written from all that is there. The exit code
is 1 if anything is unexplained. --reference: a complete run of tests/workflow/tiny.yaml in which
the parts that need one look; without it, it is made first.
"""

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.page import TITLES, Row, save, write_page

ROOT = Path(__file__).parents[2]
SEED = 2021


def main() -> None:
    """Run the parts that were asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(TITLES), choices=[*TITLES, []])
    parser.add_argument("--tries", type=int, default=500, help="damaged copies of each input")
    parser.add_argument("--kinds", nargs="*", default=[], help="of inputs; none: all")
    parser.add_argument("--moments", type=int, default=40, help="of kills")
    parser.add_argument("--minutes", type=float, default=90, help="in which kills begin")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--to", type=Path, default=ROOT / "results/faults")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/results/faults.md")
    parser.add_argument("--reference", type=Path)
    options = parser.parse_args()
    logging.getLogger("scbert").addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="scbert_faults_") as folder:
        for part in options.parts or TITLES:
            for row in shown(PARTS[part](options, Path(folder))):
                save(options.to / f"{part}.json", row)
    sys.exit(write_page(options.page, options.to, options.seed) > 0)


def shown(rows: Iterator[Row]) -> Iterator[Row]:
    """Print what is unexplained at once, and each row when the next one begins."""
    last, seen = Row(""), 0
    for row in rows:
        if row.fault != last.fault:
            _print(last)
            seen = 0
        for words in row.seen[seen:]:
            print(f"{row.fault}: {words}", flush=True)
        last, seen = row, len(row.seen)
        yield row
    _print(last)


def _print(row: Row) -> None:
    if row.tries:
        numbers = f"same {row.same}, other {row.other}, refused {row.refused}"
        unexplained = f"{row.unexplained} unexplained"
        print(f"{row.fault}: {row.tries} tries, {numbers}, {unexplained}", flush=True)


def input_rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Damage every kind of input."""
    from tests.faults import fuzz, inputs  # noqa: PLC0415  the other parts need no torch

    words = {fuzz.SAME: "same", fuzz.OTHER: "other", fuzz.REFUSED: "refused"}
    for kind in inputs.Whole(folder / "whole").kinds():
        if options.kinds and kind.name not in options.kinds:
            continue
        row = Row(kind.name, note=inputs.NOTES[kind.name])
        for one in fuzz.tries(kind, options.tries, options.seed, folder / "try"):
            said = f"try {one.number}, {one.damage}: {one.words}"
            row.add(words.get(one.verdict, one.verdict), said)
        yield row


def folder_rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Full disks, read-only folders and the like."""
    from tests.faults import folders  # noqa: PLC0415

    return folders.folder_rows(reference(options, folder), folder / "folders", options.seed)


def kill_rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Signals at random moments."""
    from tests.faults import kills  # noqa: PLC0415

    run = reference(options, folder)
    n, minutes, seed = options.moments, options.minutes, options.seed
    yield from kills.Kills(n, minutes, seed, folder / "kills", run).run()


def reference(options: argparse.Namespace, folder: Path) -> Any:
    """Return a complete run that nobody disturbed; make it if there is none."""
    from tests.workflow_run import Run, write_second  # noqa: PLC0415

    place = options.reference or folder / "reference"
    if place.exists():
        run = Run.__new__(Run)
        run.repository, run.here = place / "repository", place / "here"
        return run
    place.mkdir(parents=True)
    run = Run(place)
    write_second(run.here / "second.h5ad")
    done = run.snakemake()
    assert done.returncode == 0, done.said
    return run


PARTS = {"inputs": input_rows, "folders": folder_rows, "kills": kill_rows}

if __name__ == "__main__":
    main()
