"""A method, run as a program of its own and measured; only the standard library is needed.

It runs in the environment of the method, which need not have anything of scBERT. A method that
fails is a result: its exit code and reason are written beside empty answers. What is told to stop
(a cluster's preemption) writes nothing, and runs again.
"""

import importlib.metadata
import json
import os
import platform
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType

EMPTY = "cell\tlabel\n"
TIMED_OUT = 124  # as of timeout(1)
KEPT = 300  # characters of a reason
KEYS = re.compile(r"^(?=[A-Za-z])", re.MULTILINE)  # where a key of environment.yaml begins
PACKAGE = re.compile(  # a line of them: perhaps a channel, its name, perhaps a version
    r"^\s*-\s*[\"']?(?:[\w-]+::)?([A-Za-z][A-Za-z0-9_.-]*)(?=[\s\"'\[=<>~!]|$)", re.MULTILINE
)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
SECONDS = 0.5  # between two looks; what is held for less may be missed
ASK = ("--query-compute-apps=pid,used_gpu_memory", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class MethodProgram:
    """A program, predict.py of a folder, and how it is to be run.

    `options` are further words for its command line; after `minutes` it has failed.
    """

    folder: Path
    options: str
    seed: int
    threads: int
    minutes: float

    def command(self, learned: Path, query: Path, answers: Path) -> list[str]:
        """Return the words of its command line."""
        command = [sys.executable, str(self.folder / "predict.py"), "--learned", str(learned)]
        command += ["--query", str(query), "--answers", str(answers), "--seed", str(self.seed)]
        return [*command, "--threads", str(self.threads), *shlex.split(self.options)]


@dataclass(frozen=True)
class Run:
    """What running a method took, and how it ended: exit 0 and no reason if it went well.

    `peak_mb` is resident memory, `gpu_mb` memory of GPUs, None where there is no nvidia-smi.
    """

    exit: int
    reason: str
    seconds: float
    cpu_seconds: float
    peak_mb: int
    gpu_mb: int | None
    versions: dict[str, str]


def run_method(method: MethodProgram, learned: Path, query: Path, answers: Path, run: Path) -> Run:
    """Run a method, and write its answers and what the run took.

    Parameters
    ----------
    learned, query
        Files of cells, see docs/benchmark.md.
    answers, run
        The files to write, a table and a JSON; the answers are not looked into here.

    Raises
    ------
    FileNotFoundError
        If a file of cells has vanished and the method failed, which then says nothing of it.
    """
    unfinished = answers.with_name(f".{answers.name}.unfinished")
    answers.parent.mkdir(parents=True, exist_ok=True)
    unfinished.unlink(missing_ok=True)
    found = _measured(method, method.command(learned, query, unfinished))
    if not found.exit and not unfinished.exists():
        found = replace(found, exit=1, reason="predict.py ended well but wrote no answers")
    gone = [str(file) for file in (learned, query) if not file.exists()]
    if found.exit and gone:
        raise FileNotFoundError(
            f"{' and '.join(gone)} vanished while {method.folder.name} ran, so that it failed. Run "
            "the benchmark again."
        )
    if found.exit:
        unfinished.write_text(EMPTY)
    run.write_text(json.dumps(asdict(found), indent=1) + "\n")
    unfinished.replace(answers)
    return found


def _measured(method: MethodProgram, command: list[str]) -> Run:
    """Run a command in a process group of its own, which a signal or the limit ends."""
    threads = dict.fromkeys(THREADS, str(method.threads))
    environment = os.environ | threads | {"PYTHONHASHSEED": "0"}
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        os.killpg(process.pid, signal.SIGKILL)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        with watched(process.pid) as gpu:
            _, said = process.communicate(timeout=60 * method.minutes)
        code, reason = process.returncode, ""
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, said = process.communicate()
        code, reason = TIMED_OUT, f"not done after {method.minutes:g} minutes"
    sys.stderr.write(said)
    if code and not reason:
        reason = _reason(code, said)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    per_mb = 1e6 if sys.platform == "darwin" else 1e3
    return Run(
        exit=code,
        reason=reason,
        seconds=round(time.monotonic() - began, 2),
        cpu_seconds=round(used.ru_utime + used.ru_stime, 2),
        peak_mb=round(used.ru_maxrss / per_mb),
        gpu_mb=gpu.peak_mb if gpu else None,
        versions=_versions(method.folder / "environment.yaml"),
    )


def _reason(code: int, said: str) -> str:
    if code < 0:
        return f"ended by signal {-code}" + (", as where memory is short" if code == -9 else "")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:KEPT] if lines else f"exit code {code}, and nothing was said"


def _versions(environment: Path) -> dict[str, str]:
    """Return the installed versions of what environment.yaml names, and of Python."""
    found = {"python": platform.python_version()}
    parts = KEYS.split(environment.read_text())
    listed = "".join(part for part in parts if part.startswith("dependencies:"))
    for name in PACKAGE.findall(listed):
        try:
            found.setdefault(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            found.setdefault(name, "not found")
    return found


class GpuMemory:
    """Memory of NVIDIA GPUs that a group of processes takes: the largest sum seen, in MiB."""

    def __init__(self, asking: str, group: int) -> None:
        self.asking, self.group, self.peak_mb = asking, group, 0

    def look(self) -> None:
        """Ask once, and keep the largest answer."""
        found = subprocess.run([self.asking, *ASK], capture_output=True, text=True, check=False)
        lines = [line.split(",") for line in found.stdout.splitlines()]
        used = [int(mb) for pid, mb in lines if mb.strip().isdigit() and self._own(int(pid))]
        self.peak_mb = max(self.peak_mb, sum(used))

    def _own(self, pid: int) -> bool:
        try:
            return os.getpgid(pid) == self.group
        except ProcessLookupError:  # it has ended since
            return False


@contextmanager
def watched(group: int) -> Iterator[GpuMemory | None]:
    """Look at the memory of a process group every half second; None without nvidia-smi."""
    asking = shutil.which("nvidia-smi")
    if asking is None:
        yield None
        return
    memory, done = GpuMemory(asking, group), threading.Event()

    def follow() -> None:
        while not done.wait(SECONDS):
            memory.look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        done.set()
        thread.join()
