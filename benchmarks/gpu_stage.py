"""Settings of a stage of the GPU benchmark, and its numbers, each written down at once."""

import gc
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# What torch says where a device or a type has no such kernel.
NO_KERNEL = (
    "No available kernel",
    "No viable backend",
    "Could not run 'aten::",
    "not implemented for",
    "only supports",
    "not compiled with CUDA",
    "not support",
)


BROKEN = 3  # exit status of a stage whose device answers no more; it is started again


class Unsupported(Exception):
    """The device cannot do what was to be measured."""


@dataclass(frozen=True)
class Job:
    """What all stages of a run share.

    `data` holds the carried cells (see gpu_data), `work` what stages leave for later ones, `out`
    what comes back; `small`: sizes that a CPU does in seconds.
    """

    stage: str
    device: torch.device
    small: bool
    data: Path
    work: Path
    out: Path

    def found(self, stage: str, name: str) -> dict[str, Any]:
        """Return a measurement of an earlier stage; empty if it was not taken."""
        path = self.work / f"{stage}.json"
        content = json.loads(path.read_text()) if path.is_file() else {}
        return content.get(name, {})


class Record:
    """The measurements of a stage by name, in a file that is complete at any time.

    A stage that died goes on behind the measurement that killed it.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.ends = path, time.monotonic() + seconds
        self.found: dict[str, dict[str, Any]] = {}
        self.before = set()
        if path.is_file():
            self.found = json.loads(path.read_text())
            self.before = set(self.found)

    def left(self) -> float:
        """Return the seconds that are left to the stage."""
        return self.ends - time.monotonic()

    def put(self, name: str, found: dict[str, Any]) -> None:
        """Write a measurement."""
        self.found[name] = found
        replace_json(self.path, self.found)

    def measure(self, name: str, work: Callable[..., dict[str, Any]], *given: Any) -> None:
        """Take a measurement; what goes wrong is written in its place, and the stage goes on."""
        if name in self.before:
            return
        if self.left() <= 0:
            self.put(name, {"status": "no time left"})
            return
        self.put(name, {"status": "unfinished"})
        started = time.monotonic()
        try:
            found = {"status": "ok", **work(*given)}
        except Exception as error:  # noqa: BLE001  the next measurement must have its turn
            found = failure(error)
            if "CUDA error" in str(error):  # and every later call of this process would fail
                self.put(name, found)
                raise SystemExit(BROKEN) from None
        free_memory()
        found["seconds"] = round(time.monotonic() - started, 2)
        self.put(name, found)
        brief = {key: value for key, value in found.items() if not isinstance(value, list | dict)}
        print(f"{self.path.stem} {name}: {brief}", flush=True)


def failure(error: Exception) -> dict[str, Any]:
    """Say what went wrong: too little memory, no such kernel, or an error with its last lines."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, torch.OutOfMemoryError):
        return {"status": "out of memory"}
    if isinstance(error, Unsupported | NotImplementedError) or any(
        said in text for said in NO_KERNEL
    ):
        return {"status": "unsupported", "why": text.splitlines()[0][:200]}
    traceback.print_exc(file=sys.stdout)
    return {"status": "error", "traceback": traceback.format_exc().splitlines()[-8:]}


def free_memory() -> None:
    """Let the next measurement begin with an empty device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def replace_json(path: Path, content: object) -> None:
    """Write JSON so that a reader finds the old or the new file, and no part of one."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=1, default=float) + "\n")
    part.replace(path)
