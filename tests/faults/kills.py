"""Signals at random moments of the workflow and of its jobs, and the results at the end."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.faults.page import Row
from tests.faults.results import differing, digests
from tests.workflow_run import Run, write_second

KINDS = {
    "SIGKILL, the workflow alone: its jobs go on": ("workflow", signal.SIGKILL),
    "SIGTERM, the workflow alone": ("workflow", signal.SIGTERM),
    "SIGKILL, the workflow and all of its jobs": ("everything", signal.SIGKILL),
    "SIGKILL, one job": ("job", signal.SIGKILL),
    "SIGTERM, one job": ("job", signal.SIGTERM),
}
SCRIPT = re.compile(r"scripts/(\w+)\.py")
LOCKED = "cannot be locked"  # Snakemake's words; docs/running.md says what to do
DOCUMENTED = ("is in use by another trainer", "is being made by another process")
UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}")  # what files.publish writes to
MOST_REFUSALS = 3  # in a row
WAIT = 900  # seconds for the end of a workflow that was told to end
AGAIN = 0.25  # share of the jobs begun again that are hit again
USUAL = 8.0  # seconds of a job of which nothing is known
Process = tuple[int, str]


@dataclass
class Fault:
    """One signal: which, and what was running."""

    kind: str
    job: str


def started(run: Run, *arguments: str) -> subprocess.Popen[str]:
    """Start the workflow; what it says is read all the time, so that it never waits."""
    done = run.start("--rerun-incomplete", *arguments)
    done.said = ""

    def listen() -> None:
        for line in done.stdout:
            done.said += line

    threading.Thread(target=listen, daemon=True).start()
    return done


def jobs_of(process: int) -> list[Process]:
    """Return the jobs of a workflow that are running now: process and name."""
    children: dict[int, list[int]] = {}
    words: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
            words[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    below, found = [process], []
    while below:
        one = below.pop()
        below += children.get(one, [])
        script = SCRIPT.search(words.get(one, ""))
        if script and one != process and "bash -c" not in words[one]:
            found.append((one, f"{script[1]} {_output(words[one])}"))
    return found


def _output(command: str) -> str:
    """Return what tells two jobs of a rule apart: the results that it names."""
    return " ".join(sorted(set(re.findall(r"results/\S+", command))))


def alive(process: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def send(process: int, number: int) -> None:
    """Send a signal to a process, which may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


class Kills:
    """Runs the workflow and interrupts it until so many faults were made and it is complete."""

    def __init__(self, n: int, minutes: float, seed: int, folder: Path, reference: Run) -> None:
        self.n, self.rng = n, np.random.default_rng(seed)
        self.until = time.monotonic() + 60 * minutes
        self.orphans: list[int] = []
        self.expected = digests(reference.here / "results")
        self.usual = durations(reference)
        self.n_jobs = len([*(reference.here / "results/benchmarks").rglob("*.tsv")])
        self.rows = {kind: Row(kind) for kind in KINDS}
        self.rest = Row("the results at the end of each run")
        self.asked: set[int] = set()
        self.seen: set[str] = set()
        self.faults: list[Fault] = []
        self.folder = folder

    def run(self) -> Iterator[Row]:
        """Do it all; give each row again whenever it has changed."""
        while self._goes_on():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            run = Run(self.folder)
            write_second(run.here / "second.h5ad")
            self.seen.clear()
            self.orphans.clear()
            yield from self._one_run(run)

    def _goes_on(self) -> bool:
        return len(self.faults) < self.n and time.monotonic() < self.until

    def _one_run(self, run: Run) -> Iterator[Row]:
        """Start the workflow until it ends well; then compare everything."""
        refused = 0
        while True:
            before = len(self.faults)
            done = started(run)
            self._disturb(run, done)
            if len(self.faults) > before:
                yield self._look(run)
                refused = 0
            if done.returncode == 0:
                break
            if LOCKED in done.said:
                run.snakemake("--unlock")
            elif len(self.faults) == before:
                refused += 1
                if not self._is_documented(run, done.said) or refused > MOST_REFUSALS:
                    self.rest.add("the workflow ended by itself", done.said[-250:])
                    yield self.rest
                    return
        self._compare(run)
        yield self.rest

    def _is_documented(self, run: Run, said: str) -> bool:
        """Whether a job said that another one is at work; then wait for that, as it says."""
        for process in self.orphans:
            while alive(process):
                time.sleep(0.5)
        return any(words in said + logs(run) for words in DOCUMENTED)

    def _compare(self, run: Run) -> None:
        results = run.here / "results"
        wrong = differing(results, self.expected)
        missing = sorted(set(self.expected) - set(digests(results)))
        left = [path.name for path in results.rglob(".*") if UNFINISHED.fullmatch(path.name)]
        if wrong or missing or left:
            self.rest.add("different at the end", f"{wrong} {missing} {left}")
        else:
            self.rest.add("same")

    def _disturb(self, run: Run, done: subprocess.Popen[str]) -> None:
        """Watch a workflow to its end, and make one fault if there are any left."""
        while done.poll() is None:
            time.sleep(0.1)
            running = jobs_of(done.pid) if self._goes_on() else []
            for process, name in running:
                if process not in self.asked and self._is_hit(process, name):
                    self._make(done, process, name)
                    return

    def _is_hit(self, process: int, name: str) -> bool:
        """Draw whether a job that has begun is hit, so that the faults last until the last job."""
        self.asked.add(process)
        if name in self.seen:  # it was hit before, or the workflow was when it ran
            return self.rng.random() < AGAIN
        left = max(1, self.n_jobs - len(self.seen))
        self.seen.add(name)
        return self.rng.random() < (self.n - len(self.faults)) / left

    def _make(self, done: subprocess.Popen[str], process: int, name: str) -> None:
        delay = self.rng.uniform(0, self.usual.get(name.partition(" ")[0], USUAL))
        end = time.monotonic() + delay
        while time.monotonic() < end and alive(process) and done.poll() is None:
            time.sleep(0.02)
        running = [one for one, _ in jobs_of(done.pid)]
        kind = list(KINDS)[len(self.faults) % len(KINDS)]
        target, number = KINDS[kind]
        chosen = {"workflow": [done.pid], "everything": [done.pid, *running], "job": [process]}
        for one in chosen[target]:
            send(one, number)
        self.faults.append(Fault(kind, name))
        self.orphans = running if target == "workflow" else []
        done.wait(WAIT)

    def _look(self, run: Run) -> Row:
        """Compare what is there with what should be; count the last fault."""
        row = self.rows[self.faults[-1].kind]
        wrong = differing(run.here / "results", self.expected)
        if wrong:
            row.add("half-written or different", f"{self.faults[-1].job}: {wrong}")
        else:
            row.add("same")
        return row


def logs(run: Run) -> str:
    """Return what all jobs said last."""
    return "".join(path.read_text()[-2000:] for path in (run.here / "logs").rglob("*.log"))


def durations(run: Run) -> dict[str, float]:
    """Return the seconds that the jobs of each script took at most."""
    found: dict[str, float] = {}
    folder = run.here / "results/benchmarks"
    for path in folder.rglob("*.tsv"):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        seconds = float(path.read_text().splitlines()[1].split("\t")[0])
        found[rule] = max(found.get(rule, 0.0), seconds)
    return found
