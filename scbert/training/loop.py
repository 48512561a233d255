"""The training loop: epochs, checkpoints, history. Plain torch, with accelerate for the device.

An epoch depends only on the weights and optimizer state before it, the seed and its number, so a
run that was stopped continues after its last complete epoch and ends with the same bits.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from tqdm import tqdm

from scbert.config import Optimizer
from scbert.training.batches import MiniBatch
from scbert.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)


@dataclass
class Task:
    """What to train, told to the loop by functions.

    `batches(epoch)` gives an epoch's mini-batches and their number; `loss(model, batch)` the sum
    of the loss and what it is a sum of (masked genes, cells); `validate()` the numbers of an
    epoch's validation. `better` names the validation number that chooses the best epoch: higher is
    better; None keeps the last one. `after_step(step)` is called after each optimizer step.
    """

    model: nn.Module
    batches: Callable[[int], tuple[int, Iterable[MiniBatch]]]
    loss: Callable[[nn.Module, MiniBatch], tuple[Tensor, Tensor]]
    validate: Callable[[], dict[str, float]]
    better: str | None = None
    patience: int | None = None
    after_step: Callable[[int], None] = lambda step: None
    identity: dict[str, Any] = field(default_factory=dict)


def make_accelerator(settings: Optimizer) -> Accelerator:
    """Choose the device: a GPU where there is one."""
    return Accelerator(mixed_precision=settings.precision)


def fit(
    task: Task, settings: Optimizer, seed: int, accelerator: Accelerator, checkpoint: Path
) -> list[dict]:
    """Train, and leave the best (or last) weights in `task.model`.

    Parameters
    ----------
    checkpoint
        Folder for the state after each epoch; if it holds one of the same task, training continues
        there.

    Returns
    -------
    The history: one dict per epoch.

    Raises
    ------
    ValueError
        If the checkpoint belongs to other settings or data.
    FloatingPointError
        If the loss or a number of the validation is no longer finite; the last checkpoint stays.
    """
    trainable = [weight for weight in task.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    state = load_checkpoint(checkpoint, task.model, optimizer, task.identity) or Checkpoint()
    trainer = _Trainer(
        task,
        settings,
        accelerator,
        accelerator.prepare_model(task.model),
        accelerator.prepare_optimizer(optimizer),
    )
    for epoch in range(state.epochs_done, settings.epochs):
        if task.patience is not None and state.epochs_since_best(task.better) >= task.patience:
            log.info("no better %s for %d epochs: stopping", task.better, task.patience)
            break
        torch.manual_seed(seed + epoch)  # dropout
        record = trainer.epoch(epoch, state.step)
        state.step = record["step"]
        task.model.eval()
        with torch.no_grad():
            record |= task.validate()
        _require_finite(record)
        state.add(record, task.model, task.better)
        save_checkpoint(checkpoint, state, task.model, optimizer, task.identity)
        log.info("%s", _sentence(record, settings.epochs, state.history))
    state.restore_best(task.model)
    return state.history


@dataclass(frozen=True)
class _Trainer:
    """A task with the model and optimizer as accelerate prepared them."""

    task: Task
    settings: Optimizer
    accelerator: Accelerator
    model: nn.Module
    optimizer: AcceleratedOptimizer

    def epoch(self, epoch: int, step: int) -> dict[str, Any]:
        """Train on every cell once and return the numbers of the epoch."""
        self.model.train()
        started = time.perf_counter()
        n_batches, batches = self.task.batches(epoch)
        total = torch.zeros(2, dtype=torch.float64)
        cells = tokens = 0
        for number, batch in enumerate(tqdm(batches, total=n_batches, leave=False, disable=None)):
            self._set_learning_rate((epoch + number / n_batches) / self.settings.epochs)
            total += self._backward(batch)
            cells += len(batch.rows)
            tokens += int(batch.real_BG.sum())
            if (number + 1) % self.settings.accumulation == 0 or number + 1 == n_batches:
                step += 1
                self._step(step)
        seconds = time.perf_counter() - started
        record = {
            "epoch": epoch + 1,
            "step": step,
            "seconds": round(seconds, 3),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": float(total[0] / total[1].clamp(min=1)),
            "cells_per_second": round(cells / seconds, 1),
            "tokens_per_second": round(tokens / seconds),
        }
        _require_finite(record)
        return record

    def _set_learning_rate(self, progress: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * schedule(progress, self.settings.warmup)

    def _backward(self, batch: MiniBatch) -> Tensor:
        """Add the gradients of a batch; return its loss and number of items."""
        with self.accelerator.autocast():
            loss, n_items = self.task.loss(self.model, batch.to(self.accelerator.device))
        self.accelerator.backward(loss / n_items.clamp(min=1) / self.settings.accumulation)
        return torch.stack([loss.detach(), n_items]).to("cpu", torch.float64)

    def _step(self, step: int) -> None:
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.task.after_step(step)


def _require_finite(record: dict[str, Any]) -> None:
    for name, value in record.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name} of epoch {record['epoch']} is {value}, so the weights are lost. Training "
                "stopped; the checkpoint before it is kept. Lower learning_rate or clip_norm, "
                "delete the checkpoint and start anew."
            )


def schedule(progress: float, warmup: float) -> float:
    """Return the share of the peak learning rate: linear warm-up, then a cosine down to zero."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _sentence(record: dict[str, Any], n_epochs: int, history: list[dict]) -> str:
    left = (n_epochs - record["epoch"]) * sum(past["seconds"] for past in history) / len(history)
    numbers = "  ".join(
        f"{key} {value:.4f}"
        for key, value in record.items()
        if key.startswith(("train_", "validation_"))
    )
    return (
        f"epoch {record['epoch']}/{n_epochs}  {numbers}  {record['cells_per_second']} cells/s  "
        f"about {left:.0f} s left"
    )
