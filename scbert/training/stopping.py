"""Being told to stop (SIGTERM, Ctrl-C), and doing so at a moment that loses nothing."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping(Exception):
    """The run was told to stop; the loop writes a checkpoint and ends."""


def in_any_process(*facts: bool) -> list[bool]:
    """Return which facts are true in any process of the run; all must call this together."""
    if not torch.distributed.is_initialized():
        return list(facts)
    found = torch.tensor(facts, dtype=torch.int32)  # on the CPU: gloo, no wait for the GPU
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return [bool(fact) for fact in found]


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
        if self.received and not torch.distributed.is_initialized():
            raise Stopping

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the signals during the block; a second one of a kind acts as ever."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may set handlers, and only it receives signals
            return

        def receive(number: int, frame: FrameType | None) -> None:
            del frame
            self.received = True
            signal.signal(number, before[number])

        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            signal.signal(number, receive)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
