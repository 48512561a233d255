"""Full disks, read-only folders, clocks, two workflows, and damaged files between two rules."""

import importlib
import os
import pkgutil
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.faults.kills import jobs_of, logs, send, started
from tests.faults.page import Row
from tests.faults.results import differing, digests
from tests.faults.watched import outcome
from tests.workflow_run import COMMIT, Run, write_second

SKEW = "could indicate a clock skew problem"  # Snakemake's words
DAY = 86400.0
SECONDS = 900  # of a job
JOB = re.compile(  # as a dry run shows it; those without input are no edges
    r"^(?:local)?rule (\w+):\n    input: (.*)\n    output: (.*)\n(?:    .*\n)*Shell command: (.*)$",
    re.M,
)
CACHED = re.compile(r"\S+/scripts/(\w+\.py)")
FULL = ("No space left on device", "could not be written")
NOT_WRITABLE = ("Read-only file system", "Permission denied")


def folder_rows(reference: Run, folder: Path, seed: int) -> Iterator[Row]:
    """Try each fault on copies of a run that is complete."""
    expected = digests(reference.here / "results")
    yield two_workflows(reference, folder / "two", expected)
    yield from clocks(reference, folder / "clocks", expected)
    yield untouched(reference, folder / "untouched", expected)
    yield read_only(reference, folder / "read_only")
    yield disk_full(folder / "disk", expected)
    yield from edges(reference, folder / "edges", expected, seed)


def copied(run: Run, folder: Path) -> Run:
    """Copy a run with all of its state, and the times of its files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = Run.__new__(Run)
    made.repository, made.here = run.repository, folder / "here"
    shutil.copytree(run.here, made.here, symlinks=True)
    return made


def judge(row: Row, run: Run, expected: dict[str, str], words: str) -> None:
    """Count whether a run that ended well has the results that are expected."""
    wrong = differing(run.here / "results", expected)
    missing = sorted(set(expected) - set(digests(run.here / "results")))
    if wrong or missing:
        row.add("silently different", f"{words}: {wrong} {missing}")
    else:
        row.add("same")


@dataclass(frozen=True)
class Edge:
    """A result, and a job that reads it."""

    rule: str
    file: str
    command: str
    outputs: tuple[str, ...]


def edges_of(run: Run) -> list[Edge]:
    """Return the edges of the graph; of alike files and jobs of a rule the first stands for all."""
    done = run.snakemake("--forceall", "--dry-run", "--printshellcmds")
    assert done.returncode == 0, done.said
    found: dict[tuple[str, str], Edge] = {}
    for rule, inputs, outputs, cached in JOB.findall(done.said):
        command = CACHED.sub(f"{run.repository}/scripts/\\1", cached)
        made, script = tuple(outputs.split(", ")), re.search(r"scripts/(\w+)", command)
        assert script
        for file in _files(run.here, inputs.split(", ")):
            kind = re.sub(r"pbmc68k_reduced|second|embedded|celltypist_sample", "*", file)
            if file not in made:
                found.setdefault((script[1], kind), Edge(rule, file, command, made))
    return list(found.values())


def _files(here: Path, inputs: list[str]) -> Iterator[str]:
    for name in inputs:
        path = here / name
        if not name.startswith("results/") or not path.exists():
            continue
        path = path.parent if path.name == "MANIFEST.sha256" else path  # a model is its folder
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file() and not file.name.startswith("."):
                yield str(file.relative_to(here))


def edges(reference: Run, folder: Path, expected: dict[str, str], seed: int) -> Iterator[Row]:
    """Damage a file and run a job that reads it; a fresh copy for each."""
    found = edges_of(reference)
    note = f"{len(found)} edges, one of the two at each; same: the job does not read it"
    rows = {"cut": Row("an intermediate file cut in half", note=note)}
    rows["flipped"] = Row("an intermediate file with one byte changed", note=note)
    for step in pkgutil.iter_modules([str(reference.repository / "scbert/steps")]):
        importlib.import_module(f"scbert.steps.{step.name}")  # once, for all jobs
    for number, edge in enumerate(found):
        how = list(rows)[number % 2]
        _try_edge(rows[how], edge, how, reference, folder, expected, seed + number)
        yield rows[how]


def _try_edge(
    row: Row,
    edge: Edge,
    how: str,
    reference: Run,
    folder: Path,
    expected: dict[str, str],
    seed: int,
) -> None:
    run = copied(reference, folder)
    hurt(run.here / edge.file, how, np.random.default_rng(seed))
    damaged = (run.here / edge.file).read_bytes()
    for output in edge.outputs:
        path = run.here / output
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    named = (Path(edge.file).name, str(Path(edge.file).parent))
    verdict, words = outcome(lambda: do(run, edge.command), run.here, named, seconds=SECONDS)
    if verdict == "read":
        now, made = digests(run.here / "results"), tuple(edge.outputs)
        names = [name for name in now if f"results/{name}".startswith(made)]
        wrong = [name for name in names if expected.get(name) != now[name]]
        intact = damaged == (run.here / edge.file).read_bytes()
        verdict, words = (
            ("same", "") if intact and not wrong else ("silently different", str(wrong))
        )
    row.add(verdict, f"{edge.rule} of {edge.file}, {how}: {words}")


def do(run: Run, command: str) -> bytes:
    """Do what the command of a job does, in this process, which ends afterwards."""
    words = shlex.split(command.partition(" > logs/")[0])
    script = next(number for number, word in enumerate(words) if word.endswith(".py"))
    os.environ |= {"SCBERT_COMMIT": COMMIT, "SCBERT_GPUS": "0"}
    os.chdir(run.here)
    of_launcher = ["--device", "cpu"] if "scbert.training.launch" in words else []
    sys.argv = [*words[script:], *of_launcher]
    runpy.run_path(words[script], run_name="__main__")
    return b"\1"


def hurt(path: Path, how: str, rng: np.random.Generator) -> None:
    """Damage a file."""
    content = bytearray(path.read_bytes())
    if how == "cut":
        del content[len(content) // 2 :]
    elif content:
        content[rng.integers(len(content))] ^= int(rng.integers(1, 256))
    path.unlink()
    path.write_bytes(content)


def untouched(reference: Run, folder: Path, expected: dict[str, str]) -> Row:
    """Damage a file without a change of its time: what is made of it already stays as it is."""
    row = Row("a file damaged behind Snakemake's back (same time), and a rerun")
    run = copied(reference, folder)
    path = run.here / "results/counts/second.h5ad"
    stat = path.stat()
    hurt(path, "cut", np.random.default_rng(0))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    done = run.snakemake("--rerun-incomplete")
    wrong = [name for name in differing(run.here / "results", expected) if "counts/" not in name]
    fine = done.returncode == 0 and not wrong
    row.add("same" if fine else "different", f"{wrong} {done.said[-200:]}")
    row.note = "nothing is run again; the job that reads it next refuses it (below)"
    return row


def clocks(reference: Run, folder: Path, expected: dict[str, str]) -> Iterator[Row]:
    """Files from the future and from the past, as a clock that was set makes them."""
    cases = {"a day ahead": DAY, "ten years back": -3650 * DAY}
    for words, shift in cases.items():
        row = Row(f"half of the results from a clock {words}, and a rerun")
        run = copied(reference, folder)
        files = [path for path in sorted((run.here / "results").rglob("*")) if path.is_file()]
        for path in files[::2]:
            set_time(path, time.time() + shift)
        done = run.snakemake("--rerun-incomplete")
        if done.returncode:
            row.add("refused" if SKEW in done.said else "ended without a reason", done.said[-250:])
            for path in (run.here / "results").rglob("*"):  # as docs/running.md says
                if path.stat().st_mtime > time.time():
                    set_time(path, time.time())
            done = run.snakemake("--rerun-incomplete")
        if done.returncode:
            row.add("ended without a reason", done.said[-250:] + logs(run)[-250:])
        else:
            judge(row, run, expected, words)
        row.note = "refused by Snakemake (clock skew); after `touch` it is complete"
        row.note = row.note if row.refused else "jobs are run again for nothing"
        yield row


def set_time(path: Path, seconds: float) -> None:
    """Give a file a time."""
    os.utime(path, (seconds, seconds))


def two_workflows(reference: Run, folder: Path, expected: dict[str, str]) -> Row:
    """Start a second workflow in the folder of one that runs."""
    row = Row(
        "a second workflow in the same folder", note="Snakemake's lock: which files, what to do"
    )
    run = copied(reference, folder)
    (run.here / "results/report.html").unlink()
    first, jobs = started(run), []
    while first.poll() is None and not jobs:
        jobs = [process for process, _ in jobs_of(first.pid)]
        time.sleep(0.05)
    for process in jobs:
        send(process, signal.SIGSTOP)  # until the second one has ended
    second = run.snakemake("--rerun-incomplete")
    for process in jobs:
        send(process, signal.SIGCONT)
    locked = second.returncode != 0 and "cannot be locked" in second.said
    row.add("refused" if locked else "not refused", second.said[-250:])
    if first.wait(600) == 0:
        judge(row, run, expected, "the first")
    else:
        row.add("the first one ended", first.said[-250:])
    return row


def read_only(reference: Run, folder: Path) -> Row:
    """Run again what is missing in a results folder that cannot be written to."""
    row = Row("a results folder that is read-only", note="")
    if os.geteuid() != 0:
        row.note = "not tried: needs root, to mount"
        return row
    run = copied(reference, folder)
    (run.here / "results/report.html").unlink()
    results = run.here / "results"
    try:
        _mount("--bind", results, results)
        _mount("-o", "remount,ro,bind", results)
        done = run.snakemake("--rerun-incomplete")
    finally:
        subprocess.run(["umount", results], check=False, capture_output=True)
    said = done.said + logs(run)
    fine = done.returncode != 0 and any(words in said for words in NOT_WRITABLE)
    row.add("refused" if fine else "ended without a reason", said[-250:])
    return row


def _mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


def disk_full(folder: Path, expected: dict[str, str]) -> Row:
    """Run on a disk that is too small, again and again, each time with a little more room."""
    row = Row("a disk that is full, and more room each time")
    if os.geteuid() != 0:
        row.note = "not tried: needs root, to mount a small tmpfs"
        return row
    folder.mkdir(parents=True)
    run = Run(folder)
    write_second(run.here / "second.h5ad")
    results = run.here / "results"
    results.mkdir()
    _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", results)
    try:
        for size in ("1m", "3m", "6m", "10m", "16m", "1g"):
            _mount("-o", f"remount,size={size}", results)
            done = run.snakemake("--rerun-incomplete")
            wrong = differing(results, expected)
            if done.returncode == 0:
                judge(row, run, expected, size)
                break
            said = done.said + logs(run)
            full = any(words in said for words in FULL) and not wrong
            row.add("refused" if full else "different, or no reason", f"{wrong} {said[-250:]}")
    finally:
        subprocess.run(["umount", results], check=False, capture_output=True)
    row.note = "what is there is whole each time, and the last run is complete"
    return row
