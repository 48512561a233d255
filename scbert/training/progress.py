"""Progress of a training run: its history beside the checkpoints, and the log."""

import json
import logging
import math
import time
from pathlib import Path

from scbert.files import write_text
from scbert.training.state import Numbers, Sums
from scbert.training.time_left import rough_duration

log = logging.getLogger(__name__)
HISTORY = "history.jsonl"
SILENCE = 60.0  # seconds; then the time left is told although no line is due


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
        self.began: tuple[float, float] | None = None  # epochs that were done, and when
        self.validations: list[float] = []  # seconds, with the checkpoint after each
        self.passed = self.told = time.monotonic()

    def pass_step(self, step: int, epochs: float) -> None:
        """Take note of a step; `epochs` are done, counted with fractions.

        Time is measured from the end of the first one, in which buffers are filled and kernels are
        chosen or compiled.
        """
        if self.history is None:
            return
        self.passed = time.monotonic()
        if self.began is None:
            self.began = (epochs, self.passed)
        if self.passed - self.told >= SILENCE:
            self._log(f"step {step}", epochs, self.epochs - math.ceil(epochs) + 1)

    def tell(self, record: Numbers, epochs: float) -> None:
        """Write a line, of a step or of an epoch that ends; `epochs` as above."""
        if self.history is None:
            return
        append_line(self.history, record)
        ahead = self.epochs - math.ceil(epochs)
        if "epoch" not in record:
            ahead += 1
        elif self.began is not None:  # else a run continues with a validation
            self.validations.append(time.monotonic() - self.passed)
        line = "  ".join(f"{key} {_short(value)}" for key, value in record.items())
        self._log(line, epochs, ahead)

    def _log(self, line: str, epochs: float, ahead: int) -> None:
        left = self._seconds_left(epochs, ahead)
        log.info("%s  time left: %s", line, "unknown" if left is None else rough_duration(left))
        self.told = time.monotonic()

    def _seconds_left(self, epochs: float, ahead: int) -> float | None:
        """Return what the rest takes at the pace so far; None: unknown.

        So many validations are `ahead`; until there was one, it is taken to be short.
        """
        if self.began is None or epochs <= self.began[0]:
            return None
        validating = sum(self.validations)
        training = time.monotonic() - self.began[1] - validating
        left = (self.epochs - epochs) * training / (epochs - self.began[0])
        return left + ahead * validating / max(1, len(self.validations))


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.5g}"


def rates(sums: Sums, peak: float | None) -> dict[str, float]:
    """Return what an epoch has done per second so far.

    Parameters
    ----------
    peak
        The operations per second that the devices could do; None: not known.

    Returns
    -------
    cells, tokens and, where they are counted, 1e12 operations per second; mfu, the share of the
    peak that these are; and waiting_share, the share of the time without data.
    """
    seconds = max(sums.seconds, 1e-9)
    found = {
        "cells_per_second": round(sums.cells / seconds, 1),
        "tokens_per_second": round(sums.tokens / seconds),
        "waiting_share": round(sums.waited / seconds, 4),
    }
    if sums.flop:
        found["tflop_per_second"] = round(sums.flop / seconds / 1e12, 4)
        if peak is not None:
            found["mfu"] = round(sums.flop / seconds / peak, 4)
    return found


def require_finite(record: Numbers) -> None:
    """Stop where a number of an epoch is not finite; raises FloatingPointError naming it."""
    for name, value in record.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name} of epoch {record['epoch']} is {value}, so the weights are lost. Training "
                "stopped; the checkpoint before it is kept. Lower learning_rate or clip_norm, "
                "delete the checkpoint and start again."
            )


def append_line(path: Path, record: Numbers) -> None:
    """Add a line to the history beside the checkpoints, where a person can follow it."""
    with path.open("a") as handle:
        handle.write(json.dumps(record) + "\n")


def truncate_lines(path: Path, step: int) -> None:
    """Take out the lines of steps that are not in the checkpoint and will be done again."""
    if not path.is_file():
        return
    complete = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    kept = [line for line in complete if json.loads(line)["step"] <= step]
    write_text(path, "".join(kept))
