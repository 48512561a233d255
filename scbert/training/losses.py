"""Losses stay on the device until they are read, many steps at a time, and are then judged.

Reading makes the CPU wait for a GPU, so it happens once in a while, and before each checkpoint:
none is ever written of weights that a bad loss has reached.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from scbert.files import write_json
from scbert.training.processes import is_alone, sum_over_processes
from scbert.training.state import Checkpoint


@dataclass
class Step:
    """What this process's batches of an optimizer step left behind, still on the device.

    `losses` has for each batch the sum of the loss and what it is a sum of; `norm` is that of the
    gradient of all processes, and `flop` what the network needs for the cells.
    """

    number: int
    epoch: int
    learning_rate: float
    rows: list[np.ndarray] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    norm: Tensor | None = None
    tokens: int = 0
    flop: float = 0.0

    def numbers(self) -> np.ndarray:
        """Return loss and items of each batch, shape (batches, 2)."""
        if not self.losses:
            return np.zeros((0, 2))
        return torch.stack(self.losses).cpu().double().numpy()


class PendingLosses:
    """Steps whose losses were not read yet, and what to compare them with."""

    def __init__(
        self,
        explosion: float,
        folder: Path,
        name_cells: Callable[[np.ndarray], list[str]],
        least_first_loss: float = 0.0,
    ) -> None:
        self.least_first_loss = least_first_loss
        self.explosion, self.folder, self.name_cells = explosion, folder, name_cells
        self.unread: list[Step] = []

    def read(self, state: Checkpoint) -> dict[str, float] | None:
        """Add what is unread to the state; return the loss and the gradient of these steps.

        All processes must call this together.

        Raises
        ------
        FloatingPointError
            If a loss or a gradient is not finite, or the mean of recent losses explodes: one hard
            batch is none. failure.json in the folder then says which batches of which step it was.
        """
        steps, self.unread = self.unread, []
        if not steps:
            return None
        found = [step.numbers() for step in steps]
        norms = torch.stack([step.norm for step in steps if step.norm is not None]).cpu().double()
        totals = sum_over_processes(
            np.array(
                [
                    [*each.sum(axis=0), sum(map(len, step.rows)), step.tokens, step.flop]
                    for step, each in zip(steps, found, strict=True)
                ],
                dtype=np.float64,
            )
        )
        means = totals[:, 0] / np.maximum(totals[:, 1], 1)
        if state.first_loss is None:
            state.first_loss = float(means[0])
        limit = self.explosion * max(state.first_loss, self.least_first_loss)
        recent = [state.recent(loss, items) for loss, items in totals[:, :2].tolist()]
        for step, each, mean, norm in zip(steps, found, recent, norms.tolist(), strict=True):
            # Not `mean > limit`: of NaN that is false.
            if not (mean <= limit and math.isfinite(norm)):
                self._fail(step, each, (mean, norm, limit))
        for loss, items, cells, tokens, flop in totals.tolist():  # in order: the same sums always
            state.sums.loss += loss
            state.sums.items += items
            state.sums.cells += int(cells)
            state.sums.tokens += int(tokens)
            state.sums.flop += flop
        return {
            "train_loss": float(totals[:, 0].sum() / max(totals[:, 1].sum(), 1)),
            "gradient_norm": float(norms.max()),
            "learning_rate": steps[-1].learning_rate,
        }

    def _fail(self, step: Step, found: np.ndarray, why: tuple[float, float, float]) -> None:
        mean, norm, limit = why
        batches = [
            {
                "loss": repr(float(loss / max(items, 1))),  # JSON has no NaN
                "masked_or_cells": items,
                "cells": self.name_cells(rows),
            }
            for rows, (loss, items) in zip(step.rows, found, strict=True)
        ]
        if not is_alone():
            batches = gather_object(batches)
        worst = [batch for batch in batches if not float(batch["loss"]) <= limit] or batches
        path = self.folder / "failure.json"
        write_json(
            path,
            {
                "step": step.number,
                "epoch": step.epoch + 1,
                "recent_loss": repr(mean),
                "gradient_norm": repr(norm),
                "learning_rate": step.learning_rate,
                "largest_loss_allowed": limit if math.isfinite(limit) else repr(limit),
                "batches": worst,
            },
        )
        raise FloatingPointError(
            f"the loss of step {step.number} (epoch {step.epoch + 1}) and those before it is "
            f"{mean:.4g} on average, and its gradient's norm {norm:.4g}; finite numbers are "
            f"needed, and a loss of at most {limit:.4g}. Training stopped; the last checkpoint in "
            f"{self.folder} is of weights before that, and {path} names the cells. Look at "
            "them, or lower learning_rate or clip_norm, delete the checkpoint and start again."
        )
