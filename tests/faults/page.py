"""The page of `make test-faults`: outcomes of its parts."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

INTRO = """# Faults: what the workflow and the readers make of them

Written by `make test-faults` (tests/faults; seed {seed}). A row is explained if every try ended
with the same final results, or in an error that says what was found and what to do; where a format
has no checksum, a changed number can also be read as that number. Nothing may be lost,
half-written, executed, or written outside of its folder. {verdict}
"""
TITLES = {
    "inputs": "## Damaged and deceiving inputs",
    "folders": "## Disks, folders, clocks, and intermediate files",
    "kills": "## Killed workflows and jobs",
}
NOTES = {
    "inputs": """Each kind of input is damaged in many ways: bytes changed, cut, gone; values,
types and shapes of other kinds; huge numbers; paths that lead out; pickles. Of folders with
checksums, in half of the tries or more these are made anew, as one would who wants to deceive. Each
try is a process of its own with a limit of 3 GB and 60 s, in which every file that is opened for
writing and every program that is started is seen. Models annotate cells; files of cells are
annotated and read by the workflow; checkpoints are resumed to the end of the training. The first
try of each row is the whole input.""",
    "folders": """On the results of tests/workflow/tiny.yaml. An edge is a file and a rule that
reads it: the job is run again on a copy, with the file cut in half or with one byte changed. Of
alike files (of several datasets) and jobs of a rule one stands for all.""",
    "kills": """A run of tests/workflow/tiny.yaml, from raw counts to the report, is interrupted
again and again and continued each time as docs/running.md says; it is one run that is interrupted
many times, not as many runs. Which jobs are hit is drawn, so that the faults are spread over the
whole run, and each comes at a random moment of the job's usual duration. After each fault every
result that is there is compared with the run that nobody disturbed: nothing may be half-written. At
the end all results are compared, without times and what names them.""",
}
HEAD = ["| fault | tries | same results | other values | error says why | unexplained | |"]
HEAD += ["|---|---|---|---|---|---|---|"]


@dataclass
class Row:
    """What came of one kind of fault."""

    fault: str
    tries: int = 0
    same: int = 0
    other: int = 0
    refused: int = 0
    unexplained: int = 0
    note: str = ""
    seen: list[str] = field(default_factory=list)  # what is unexplained

    def add(self, verdict: str, words: str = "") -> None:
        """Count a try: same, other, refused, or what is unexplained."""
        self.tries += 1
        if verdict in ("same", "other", "refused"):
            setattr(self, verdict, getattr(self, verdict) + 1)
            return
        self.unexplained += 1
        self.seen.append(f"{verdict}: {words}"[:300])


def kept(file: Path) -> list[Row]:
    """Return the rows of a part that were kept."""
    return [Row(**one) for one in json.loads(file.read_text())] if file.is_file() else []


def save(file: Path, row: Row) -> None:
    """Keep a row of a part, in the place of an earlier one of the same fault."""
    rows = {one.fault: one for one in kept(file)} | {row.fault: row}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(one) for one in rows.values()], indent=1) + "\n")


def write_page(page: Path, folder: Path, seed: int) -> int:
    """Write the page from the parts that were run; return how many tries are unexplained."""
    found = {name: kept(folder / f"{name}.json") for name in TITLES}
    rows = {name: part for name, part in found.items() if part}
    every = [row for part in rows.values() for row in part]
    unexplained = sum(row.unexplained for row in every)
    verdict = f"{sum(row.tries for row in every):,} tries, {unexplained} unexplained."
    lines = [INTRO.format(seed=seed, verdict=verdict)]
    for name, part in rows.items():
        lines += [TITLES[name], "", NOTES[name], "", *HEAD, *map(_line, part), ""]
    page.write_text("\n".join(lines).rstrip() + "\n")
    return unexplained


def _line(row: Row) -> str:
    numbers = (row.tries, row.same, row.other, row.refused, row.unexplained)
    return f"| {row.fault} | {' | '.join(f'{n:,}' for n in numbers)} | {row.note} |"
