"""A step in a process of its own, as the workflow runs it, with its time and its peak memory."""

import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds on the clock, seconds of CPU, and megabytes at its peak."""

    seconds: float
    cpu_seconds: float
    peak_mb: float

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of one after the other."""
        return Cost(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            max(self.peak_mb, other.peak_mb),
        )


NOTHING = Cost(0.0, 0.0, 0.0)


def measure(step: Callable[..., Any], *given: Any) -> Cost:
    """Run a step in a fork of this process, which has imported it already.

    Raises
    ------
    RuntimeError
        If the step fails; what it says is printed.
    """
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            step(*given)
        except Exception:  # noqa: BLE001  the parent must hear of it
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"{step.__name__} failed (status {status}); see above.")
    cpu = used.ru_utime + used.ru_stime
    return Cost(time.perf_counter() - started, cpu, used.ru_maxrss / 1024)
