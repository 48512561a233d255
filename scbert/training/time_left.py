"""The time that is left of a fine-tuning, over all of its parts.

What each part takes is expected from its size. The seconds were measured on two cores, and other
machines are slower or faster: how much is seen in the parts that are done. What is left of the
part at hand is told by how fast it went so far.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from scbert.experts.out_of_fold import N_FOLDS

log = logging.getLogger(__name__)
PER_CELL, PER_FIT = 4.5e-3, 1.0  # seconds of the encoder, and of the experts at least
PER_TOKEN = 7e-8  # and type, of the experts; four times that of all other methods
PER_TYPE = 4e-4  # and cell: components without it
LEAST_PACE = 0.5  # a GPU makes the encoder a hundred times as fast, and nothing else
SILENCE = 60.0  # seconds; then a log, which has no bar, is told as well
BAR = "{percentage:3.0f}%|{bar}| {desc}"
_whole: ContextVar["TimeLeft | None"] = ContextVar("whole", default=None)


class TimeLeft:
    """A bar over all parts of a work, or lines of the log where there is no terminal.

    Parameters
    ----------
    name
        Of the work.
    expected
        Seconds for each part, in order.
    """

    def __init__(self, name: str, expected: Mapping[str, float]) -> None:
        self.name, self.expected = name, dict(expected)
        self.began = self.told = time.monotonic()
        whole = sum(self.expected.values())
        self.bar = tqdm(total=whole, bar_format=BAR, leave=False, disable=None)

    def tell(self, part: str, share: float, began: float) -> None:
        """Say that a share of a part is done, which began at a time."""
        now = time.monotonic()
        names = list(self.expected)
        before = sum(self.expected[name] for name in names[: names.index(part)])
        finished = before + share * self.expected[part]
        if finished:
            pace = max((now - self.began) / finished, LEAST_PACE)
        else:  # what came before the first part is not of its pace
            self.began, pace = now, 1.0
        own = (now - began) * (1 - share) / share if share else pace * self.expected[part]
        later = sum(self.expected.values()) - before - self.expected[part]
        said = f"{self.name}: {part}, about {rough_duration(max(own + pace * later, 0.0))} left"
        self.bar.n = finished
        self.bar.set_description_str(said)
        if self.bar.disable and now - self.told >= SILENCE:
            log.info(said)
            self.told = now


def expected_seconds(taught: int, tested: int, types: int, tokens: float) -> dict[str, float]:
    """Return what the parts of a fine-tuning by default take on two cores; an encoder stays frozen.

    Parameters
    ----------
    taught, tested
        Numbers of cells that are learned from, and of test cells.
    tokens
        Of a cell, on average.
    """
    fit = PER_FIT + PER_TOKEN * taught * tokens * types
    parts = {
        "encoder": PER_CELL * taught,
        "experts, held-out cells": N_FOLDS * fit,
        "experts": fit,
        "new types": PER_TYPE * taught * types,
    }
    if not tested:
        return parts
    return parts | {"cells to name": 1 + tested * 1e-3, "other methods": 2 + 4 * (fit - PER_FIT)}


@contextmanager
def time_left(name: str, expected: Mapping[str, float]) -> Iterator[None]:
    """Tell the time that is left of all parts that are done inside the block; see `TimeLeft`.

    Without an expectation each part tells its own.
    """
    if not expected:
        yield
        return
    whole = TimeLeft(name, expected)
    before = _whole.set(whole)
    try:
        with nullcontext() if whole.bar.disable else logging_redirect_tqdm():
            yield
    finally:
        _whole.reset(before)
        whole.bar.close()


@contextmanager
def part_of_work(name: str, total: int = 0, unit: str = "") -> Iterator[Callable[[int], object]]:
    """Do a part of the work; what is given counts the pieces that are done, of `total` in all.

    Without `time_left` around it the part has a bar of its own, if it has pieces.
    """
    whole = _whole.get()
    if whole is None or name not in whole.expected:
        with tqdm(total=total, desc=name, unit=unit, disable=None if total else True) as bar:
            yield bar.update
        return
    done, began = 0, time.monotonic()

    def count(pieces: int = 1) -> None:
        nonlocal done
        done += pieces
        whole.tell(name, min(done / total, 1.0), began)

    whole.tell(name, 0.0, began)
    yield count


def rough_duration(seconds: float) -> str:
    """Return seconds as one would say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
