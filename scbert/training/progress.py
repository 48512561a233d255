"""How a training run goes: its history beside the checkpoints, and the log."""

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

from scbert.files import publish
from scbert.training.state import Sums

log = logging.getLogger(__name__)

HISTORY = "history.jsonl"


class Progress:
    """Writes lines of history, and logs them with the time that is left.

    Parameters
    ----------
    history
        The file; None: another process tells.
    epochs
        Number of epochs of the whole run.
    """

    def __init__(self, history: Path | None, epochs: int) -> None:
        self.history, self.epochs = history, epochs
        self.began: tuple[float, float] | None = None  # share of the run that was done, and when

    def tell(self, record: dict[str, Any], epochs: float) -> None:
        """Write a line; `epochs` are done, counted with fractions."""
        if self.history is None:
            return
        append_line(self.history, record)
        done, now = epochs / self.epochs, time.monotonic()
        if self.began is None:  # the first line: from here on, time per progress is known
            self.began = (done, now)
        done_before, then = self.began
        left = (1 - done) * (now - then) / (done - done_before) if done > done_before else None
        numbers = "  ".join(f"{key} {_short(value)}" for key, value in record.items())
        log.info("%s  time left: %s", numbers, "unknown" if left is None else f"{left:.0f} s")


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.5g}"


def rates(sums: Sums) -> dict[str, float]:
    """Return what an epoch has done per second so far."""
    seconds = max(sums.seconds, 1e-9)
    return {
        "cells_per_second": round(sums.cells / seconds, 1),
        "tokens_per_second": round(sums.tokens / seconds),
        "waiting_share": round(sums.waited / seconds, 4),  # for data
    }


def require_finite(record: dict[str, Any]) -> None:
    """Stop where a number of an epoch is not finite; raises FloatingPointError naming it."""
    for name, value in record.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name} of epoch {record['epoch']} is {value}, so the weights are lost. Training "
                "stopped; the checkpoint before it is kept. Lower learning_rate or clip_norm, "
                "delete the checkpoint and start anew."
            )


def append_line(path: Path, record: dict) -> None:
    """Add a line to the history beside the checkpoints, where a person can follow it."""
    with path.open("a") as handle:
        handle.write(json.dumps(record) + "\n")


def truncate_lines(path: Path, step: int) -> None:
    """Take out the lines of steps that are not in the checkpoint and will be done again."""
    if not path.is_file():
        return
    complete = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    kept = [line for line in complete if json.loads(line)["step"] <= step]
    with publish(path) as unfinished:
        unfinished.write_text("".join(kept))
