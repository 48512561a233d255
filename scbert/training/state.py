"""State of a training run: where it is and how it went; its task, and requests to stop."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scbert.files import JsonObject
from scbert.training.mini_batch import MiniBatch
from scbert.training.processes import in_any_process, is_alone

KEPT = 0.9  # of the weight of a step in the recent mean, with each further one
# What is measured in a step or an epoch, by name. Not float alone: whole numbers of a checkpoint
# would be read as 3.0.
Numbers = dict[str, int | float]
Merit = Callable[[Numbers], Any]  # of the numbers of an epoch: higher is better
# Settings that a run may continue with other values of: the weights do not depend on them.
UNIMPORTANT = {"optimizer": {"checkpoints", "log_steps", "explosion"}}
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


@dataclass
class Sums:
    """What an epoch adds up, over all processes."""

    loss: float = 0.0
    items: float = 0.0
    cells: int = 0
    tokens: int = 0
    flop: float = 0.0  # that the network needs, see scbert.network.flops
    seconds: float = 0.0
    waited: float = 0.0  # seconds of them without data


@dataclass
class Checkpoint:
    """What a run knows, beside weights and optimizer: where it is, and how it went.

    `batches_done` and `sums` are those of the epoch that is not complete; `history` has one record
    for each that is. `first_loss` is that of the first step, which later ones are compared with:
    `recent_loss` / `recent_items` is a mean in which a step counts 0.9 times as much as the next.
    `setbacks` counts how often the run went back, each time to half the learning rate.
    """

    step: int = 0
    learning_rate: float = 0.0
    batches_done: int = 0
    sums: Sums = field(default_factory=Sums)
    first_loss: float | None = None
    recent_loss: float = 0.0
    recent_items: float = 0.0
    history: list[Numbers] = field(default_factory=list)
    best_epoch: int = 0
    setbacks: int = 0

    @property
    def epochs_done(self) -> int:
        """Number of complete epochs."""
        return len(self.history)

    @property
    def name(self) -> str:
        """The name of its folder; names ascend with time."""
        end = f"-epoch{self.epochs_done:05d}" if self.history and not self.batches_done else ""
        return f"step{self.step:09d}{end}"

    @property
    def best_name(self) -> str | None:
        """The name of the folder with the best weights so far."""
        if not self.best_epoch:
            return None
        record = self.history[self.best_epoch - 1]
        return f"step{record['step']:09d}-epoch{record['epoch']:05d}"

    def recent(self, loss: float, items: float) -> float:
        """Add a step's sum of losses and what it is a sum of; return the recent mean."""
        self.recent_loss = KEPT * self.recent_loss + loss
        self.recent_items = KEPT * self.recent_items + items
        return self.recent_loss / max(self.recent_items, 1)

    def epochs_since_best(self, merit: Merit | None) -> int:
        """Return how many epochs ago the best one was."""
        return self.epochs_done - self.best_epoch if merit else 0

    def add(self, record: Numbers, merit: Merit | None) -> None:
        """Complete an epoch; of equal ones the first is the best."""
        self.history.append(record)
        self.batches_done, self.sums = 0, Sums()
        if merit is None:
            return
        if not self.best_epoch or merit(record) > merit(self.history[self.best_epoch - 1]):
            self.best_epoch = self.epochs_done


@dataclass
class Task:
    """What to train, told to the loop by functions.

    `plan(epoch)` gives the cells of each mini-batch of an epoch, `make(rows, generator)` one of
    them with its targets, ahead of the network and with random numbers from the generator;
    `loss(model, batch)` the sum of the loss and what it is a sum of (masked genes, cells);
    `validate(stop)` the numbers of an epoch's validation, which ends early if `stop.received`.
    `merit(record)` of those numbers chooses the best epoch: higher is better; None keeps the last
    one. `after_step(step)` is called after each optimizer step; `name_cells(rows)` names the cells
    of a batch that broke the run; `flop(lengths)` counts what the network needs for cells of so
    many tokens, 0: not counted. A loss explodes against that of the first step, or
    `least_first_loss` if that is more: a model that begins well has a small one. A run that
    explodes goes back to its last checkpoint so often as `setbacks` says, with half the learning
    rate; after that, or with 0, it stops.
    """

    model: nn.Module
    plan: Callable[[int], Sequence[np.ndarray]]
    make: Callable[[np.ndarray, torch.Generator], MiniBatch]
    loss: Callable[[nn.Module, MiniBatch], tuple[Tensor, Tensor]]
    validate: Callable[[StopRequest], dict[str, float]]
    name_cells: Callable[[np.ndarray], list[str]]
    merit: Merit | None = None
    patience: int | None = None
    after_step: Callable[[int], None] = lambda step: None
    flop: Callable[[np.ndarray], float] = lambda lengths: 0.0
    identity: JsonObject = field(default_factory=dict)
    least_first_loss: float = 0.0
    setbacks: int = 0
