"""Being told to stop (SIGTERM, Ctrl-C), and doing so at a moment that loses nothing."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from scbert.training.processes import in_any_process, is_alone

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PASSED_ON = 5.0  # seconds; Slurm tells all processes of a job, and srun and torchrun then theirs


class Stopping(Exception):
    """The run was told to stop; the loop writes a checkpoint and ends."""


class StopRequest:
    """Whether somebody wants this process to stop; the others may not have been told."""

    def __init__(self) -> None:
        self.received = False

    def agree(self) -> None:
        """Raise Stopping in every process if one was told; all must call this together."""
        if in_any_process(self.received)[0]:
            raise Stopping

    def check(self) -> None:
        """Raise Stopping at once where no other process must be asked."""
        if self.received and is_alone():
            raise Stopping

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the signals during the block.

        The same one again soon after the first is the first, passed on; later, it acts as ever.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may set handlers, and only it receives signals
            return

        def receive(number: int, frame: FrameType | None) -> None:
            del frame
            first = told_at.setdefault(number, time.monotonic())
            self.received = True
            if time.monotonic() - first > PASSED_ON:
                signal.signal(number, before[number])
                signal.raise_signal(number)

        told_at: dict[int, float] = {}
        before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            signal.signal(number, receive)
        try:
            yield
        finally:
            for told, handler in before.items():
                signal.signal(told, handler)
