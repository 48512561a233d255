"""What the training loop is told: a model, its cells, its loss and how an epoch is judged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scbert.training.mini_batch import MiniBatch
from scbert.training.state import Merit
from scbert.training.stopping import StopRequest

# Settings that a run may continue with other values of: the weights do not depend on them.
UNIMPORTANT = {"optimizer": {"checkpoints", "log_steps", "explosion"}}


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
    identity: dict[str, Any] = field(default_factory=dict)
    least_first_loss: float = 0.0
    setbacks: int = 0
