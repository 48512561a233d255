"""One run on one GPU: ceilings, correctness, attention, the network, pretraining, fine-tuning.

Each stage is a process of its own with a limit of its own; what it has measured is in
OUT/results.json and OUT/gpu.md at any time, so a run that is cut off loses one measurement.
Run: make bench-gpu (OUT=FOLDER, DATA=FOLDER as benchmarks/gpu_data.py says; without it toy cells);
python benchmarks/gpu.py --device cpu --small for a trial of every stage without a GPU.
"""

import argparse
import gc
import importlib
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
# Module, shares of the time, and shares where all is small. The most important come first: the last
# are cut to what is left.
STAGES: dict[str, tuple[str, int, int]] = {
    "A": ("gpu_ceilings", 15, 10),
    "B": ("gpu_correct", 55, 40),
    "C": ("gpu_attention", 45, 25),
    "D": ("gpu_network", 85, 60),
    "E": ("gpu_pretrain", 150, 25),
    "E2": ("gpu_pretrain", 75, 20),
    "E3": ("gpu_pretrain", 135, 20),
    "F": ("gpu_finetune", 45, 30),
}
AGAIN, LEAST = 3, 8.0  # times that a stage that died is started again, if so many seconds are left
BROKEN = 3  # exit status, see gpu_stage
GRACE = 6.0  # seconds from asking a stage to end to ending it
AFTER = 4.0  # seconds for the last page
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "TORCH_CUDNN_SDPA_DEPRIORITIZED": "1",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}
Results = dict[str, Any]


def main() -> None:
    """Run the stages, or, as one of their processes, one of them."""
    options = arguments()
    if options.stage:
        run_one(options)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        Run(options, Path(work)).stages()
    print((options.out / "gpu.md").read_text())


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/gpu"))
    parser.add_argument("--data", type=Path, help="folder of carried cells; toy cells without it")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes that a CPU does in seconds")
    parser.add_argument("--deadline", type=float, default=560, help="seconds for all stages")
    parser.add_argument("--stages", default=",".join(STAGES), help="which, such as A,B,D")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.chosen = [name for name in STAGES if name in options.stages.split(",")]
    return options


def run_one(options: argparse.Namespace) -> None:
    """Import a stage, wait for the word and its limit on standard input, and run it."""
    stage = importlib.import_module(STAGES[options.stage][0])
    from gpu_stage import Job, Record  # noqa: PLC0415  the parent needs no torch
    from torch import device, zeros  # noqa: PLC0415

    from scbert.logs import end_when_told, start_logging  # noqa: PLC0415

    zeros(1, device=options.device)  # a GPU takes seconds to get ready
    warnings.simplefilter("default")
    start_logging()
    end_when_told()
    gc.freeze()  # what was imported is not looked through after each measurement
    said = sys.stdin.readline()
    if not said:
        return
    place = (options.data, options.work, options.out)
    job = Job(options.stage, device(options.device), options.small, *place)
    stage.run(Record(options.work / f"{options.stage}.json", float(said)), job)


class Run:
    """The stages of a run, one after the other; the next one is imported while one works."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work, self.began = options, work, time.monotonic()
        self.results: Results = {"head": head(options), "stages": {}}
        self.data = options.data or work / "data"

    def stages(self) -> None:
        """Run all that were chosen."""
        chosen = self.options.chosen
        with (self.options.out / "log.txt").open("w") as log:
            started = self.start(chosen[0], log)
            if not self.options.data:
                self.make_toy()
            for number, name in enumerate(chosen):
                process, later = started, chosen[number + 1 :]
                if later:
                    started = self.start(later[0], log)
                self.follow(name, process, self.limit(chosen[number:]), log)
        self.write()

    def make_toy(self) -> None:
        """Write toy cells where carried ones would lie."""
        from gpu_data import write_toy  # noqa: PLC0415  only where nothing was carried

        write_toy(self.data)

    def limit(self, names: list[str]) -> float:
        """Return the seconds of the first of these stages: its share of what is left."""
        left = self.options.deadline - AFTER - (time.monotonic() - self.began)
        small = self.options.small
        shares = [STAGES[name][2] if small else STAGES[name][1] for name in names]
        return max(0.0, left * shares[0] / sum(shares))

    def start(self, name: str, log: IO[str]) -> subprocess.Popen[str]:
        """Start the process of a stage, which then waits for its limit."""
        options = self.options
        command = [sys.executable, str(HERE / "gpu.py"), "--stage", name]
        command += ["--device", options.device, "--data", str(self.data)]
        command += ["--work", str(self.work), "--out", str(options.out)]
        return subprocess.Popen(
            command + (["--small"] if options.small else []),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": python_path()},
            start_new_session=True,
        )

    def follow(self, name: str, process: subprocess.Popen[str], limit: float, log: IO[str]) -> None:
        """Give a stage its time, and keep what it measures; one that dies is started again."""
        stage: dict[str, Any] = {"status": "running", "limit_s": limit, "measurements": {}}
        self.results["stages"][name] = stage
        ends = time.monotonic() + limit
        for attempt in range(1 + AGAIN):
            if attempt:
                process = self.start(name, log)
            stage["status"] = self.watch(name, process, ends)
            died = process.returncode < 0 or process.returncode == BROKEN
            if stage["status"] == "timed out" or not died or ends - time.monotonic() < LEAST:
                break
        stage["took_s"] = limit - (ends - time.monotonic())
        self.collect(name)
        print(f"{name}: {stage['status']}, {stage['took_s']:.1f} of {limit:.1f} s", flush=True)

    def watch(self, name: str, process: subprocess.Popen[str], ends: float) -> str:
        """Let a stage begin, and return how it ended."""
        assert process.stdin is not None
        try:
            process.stdin.write(f"{ends - time.monotonic()}\n")
            process.stdin.close()
        except BrokenPipeError:
            pass  # it died while it was imported; its exit status says so
        while process.poll() is None and time.monotonic() < ends:
            self.collect(name)
            time.sleep(0.25)
        if process.poll() is None:
            end(process)
            return "timed out"
        return "done" if process.returncode == 0 else f"crashed (exit status {process.returncode})"

    def collect(self, name: str) -> None:
        """Read what a stage has measured, and write all if it is more than before."""
        path, stage = self.work / f"{name}.json", self.results["stages"][name]
        found = json.loads(path.read_text()) if path.is_file() else {}
        if found != stage["measurements"] or stage["status"] != "running":
            stage["measurements"] = found
            self.write()

    def write(self) -> None:
        """Write results and page anew."""
        from gpu_raw import page  # noqa: PLC0415

        self.results["head"]["took_s"] = time.monotonic() - self.began
        text = json.dumps(self.results, indent=1) + "\n"
        for file, content in (("results.json", text), ("gpu.md", page(self.results))):
            part = self.work / f"{file}.part"
            part.write_text(content)
            replace_across(part, self.options.out / file)


def replace_across(part: Path, target: Path) -> None:
    """Put a file in its place at once, also where the folders are on different disks."""
    near = target.with_name(f".{target.name}.part")
    near.write_bytes(part.read_bytes())
    near.replace(target)


def end(process: subprocess.Popen[str]) -> None:
    """Ask a stage and its children to end, and see to it."""
    for told in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, told)
            process.wait(GRACE)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


def python_path() -> str:
    """Return where the stages find the package and each other."""
    found = [str(HERE), str(HERE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.pathsep.join(filter(None, found))


def head(options: argparse.Namespace) -> Results:
    """Say what was run, where and when."""
    asked = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "command": shlex.join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "device": options.device,
        "small": options.small,
        "machine": platform.platform(),
        "commit": said or "unknown",
    }


if __name__ == "__main__":
    main()
