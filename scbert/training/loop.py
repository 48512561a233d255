"""The training loop: epochs, optimizer steps, checkpoints, history.

Plain torch, with accelerate for device, precision and processes. Everything random follows from the
seed, the number of the epoch and the number of the batch in it. So a run that was stopped after any
optimizer step continues there and ends with the same bits, and several processes do what one does,
but for the order of sums.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from scbert.config import Optimizer
from scbert.training.batches import MiniBatch
from scbert.training.checkpoint import (
    load_best,
    load_checkpoint,
    save_checkpoint,
    tidy,
)
from scbert.training.lock import only_trainer
from scbert.training.prefetch import Prefetched
from scbert.training.processes import (
    add_up_gradients,
    in_any_process,
    require_same_weights,
)
from scbert.training.progress import HISTORY, Progress, rates, require_finite, truncate_lines
from scbert.training.readout import Readout, Step
from scbert.training.schedule import learning_rate
from scbert.training.state import Checkpoint
from scbert.training.stopping import Stopping, StopRequest

log = logging.getLogger(__name__)

EXIT_STOPPED = 143  # 128 + SIGTERM, as shells say it
UNIMPORTANT = {
    "optimizer": {"checkpoints", "log_steps", "explosion"}
}  # for the weights: may change


@dataclass
class Task:
    """What to train, told to the loop by functions.

    `plan(epoch)` gives the cells of each mini-batch of an epoch, `make(rows)` one of them;
    `loss(model, batch, generator)` the sum of the loss and what it is a sum of (masked genes,
    cells), with random numbers from the generator; `validate(stop)` the numbers of an epoch's
    validation, which ends early if `stop.received`. `better` names the validation number that
    chooses the best epoch: higher is better; None keeps the last one. `after_step(step)` is called
    after each optimizer step; `name_cells(rows)` names the cells of a batch that broke the run.
    A loss explodes against that of the first step, or `least_first_loss` if that is more: a model
    that begins well has a small one.
    """

    model: nn.Module
    plan: Callable[[int], Sequence[np.ndarray]]
    make: Callable[[np.ndarray], MiniBatch]
    loss: Callable[[nn.Module, MiniBatch, torch.Generator], tuple[Tensor, Tensor]]
    validate: Callable[[StopRequest], dict[str, float]]
    name_cells: Callable[[np.ndarray], list[str]]
    better: str | None = None
    patience: int | None = None
    after_step: Callable[[int], None] = lambda step: None
    identity: dict[str, Any] = field(default_factory=dict)
    least_first_loss: float = 0.0


def make_accelerator(settings: Optimizer) -> Accelerator:
    """Choose the device, a GPU where there is one, and join the other processes if there are any.

    Started by `torchrun` or `accelerate launch` there are; they talk by nccl or, on CPUs, by gloo.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    on_cpus = several and not torch.cuda.is_available()  # it would not join them by itself
    return Accelerator(mixed_precision=settings.precision, cpu=on_cpus)


def fit(
    task: Task, settings: Optimizer, seed: int, accelerator: Accelerator, checkpoint: Path
) -> list[dict]:
    """Train, and leave the best (or last) weights in `task.model`.

    Parameters
    ----------
    checkpoint
        Folder for the state; if it holds one of the same task, training continues there.

    Returns
    -------
    The history: one dict per epoch.

    Raises
    ------
    ValueError
        If the checkpoint belongs to other settings or data, another trainer uses the folder, or a
        checkpoint cannot be written.
    FloatingPointError
        If the loss, a gradient or a number of the validation is no longer finite, or the loss
        explodes; the last checkpoint stays, and failure.json beside it names the cells.
    SystemExit
        If the run was told to stop (SIGTERM, Ctrl-C), after writing a checkpoint.
    """
    with only_trainer(checkpoint) if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process:
            tidy(checkpoint)
        accelerator.wait_for_everyone()
        trainer = _Trainer(task, settings, seed, accelerator, checkpoint)
        with trainer.stop.listening():
            try:
                trainer.run()
            except Stopping:
                trainer.save()
                log.warning(
                    "told to stop: step %d is kept in %s, and the same command continues there",
                    *(trainer.state.step, checkpoint),
                )
                raise SystemExit(EXIT_STOPPED) from None
        load_best(checkpoint, trainer.state, task.model)
        accelerator.wait_for_everyone()  # before one of them deletes the folder
    return trainer.state.history


class _Trainer:
    """A task on its way: model, optimizer, and the state that a checkpoint holds."""

    def __init__(
        self, task: Task, settings: Optimizer, seed: int, accelerator: Accelerator, folder: Path
    ) -> None:
        self.task, self.settings, self.seed = task, settings, seed
        self.accelerator, self.folder = accelerator, folder
        self.model = task.model.to(accelerator.device)
        self.trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.batches_per_step = settings.accumulation * accelerator.num_processes
        self.identity = {**task.identity, "batches_per_step": self.batches_per_step}
        found = load_checkpoint(folder, self.model, self.optimizer, self.identity)
        self.state = found or Checkpoint()
        if found is not None:
            log.info("continuing after step %d, epoch %d", found.step, found.epochs_done + 1)
        if accelerator.is_main_process:
            truncate_lines(folder / HISTORY, self.state.step)
        self.stop = StopRequest()
        self.readout = Readout(settings.explosion, folder, task.name_cells, task.least_first_loss)
        self.saved = time.monotonic()
        history = folder / HISTORY if accelerator.is_main_process else None
        self.progress = Progress(history, settings.epochs)

    def run(self) -> None:
        """Train the epochs that are left."""
        for epoch in range(self.state.epochs_done, self.settings.epochs):
            if self._patience_is_over():
                log.info("no better %s for %d epochs", self.task.better, self.task.patience)
                break
            self._train(epoch, self.task.plan(epoch))
            record = self._summary(epoch)
            require_same_weights(self.model)
            self.model.eval()
            with torch.no_grad():
                record |= self.task.validate(self.stop)
            self.stop.agree()
            require_finite(record)
            self.state.add(record, self.task.better)
            self.save()
            self.progress.tell(record, epoch + 1)

    def _patience_is_over(self) -> bool:
        waited = self.state.epochs_since_best(self.task.better)
        return self.task.patience is not None and waited >= self.task.patience

    def _train(self, epoch: int, plan: Sequence[np.ndarray]) -> None:
        """Do the optimizer steps of an epoch that are left; each process takes its share of each.

        The gradients of a step are sums over its batches and over processes, divided once by the
        number of items of all of them: no mean of means, whatever the batches hold.
        """
        self.model.train()
        steps = _cut(range(self.state.batches_done, len(plan)), self.batches_per_step)
        rank, n_processes = self.accelerator.process_index, self.accelerator.num_processes
        own = [plan[number] for step in steps for number in step[rank::n_processes]]
        with Prefetched(self.task.make, own) as batches, self._bar(len(steps)) as bar:
            for step in steps:
                started, waited = time.perf_counter(), batches.waited
                rate = learning_rate(self.settings, epoch, step[0] / len(plan))
                done = Step(self.state.step + 1, epoch, rate)
                for number, batch in zip(step[rank::n_processes], batches, strict=False):
                    self._add_gradients(done, number, batch)
                    if self.stop.received:
                        break  # before the optimizer's step: it is done again after a restart
                told, due = in_any_process(self.stop.received, self._is_due())
                if told:
                    raise Stopping
                self._step(done)
                self.state.batches_done = step[-1] + 1
                self.state.sums.seconds += time.perf_counter() - started
                self.state.sums.waited += batches.waited - waited
                self._after_step(epoch + self.state.batches_done / len(plan), due)
                bar.update()
        self.readout.read(self.state)

    def _bar(self, n_steps: int) -> tqdm:
        silent = None if self.accelerator.is_main_process else True  # None: not on a terminal
        return tqdm(total=n_steps, leave=False, disable=silent)

    def _add_gradients(self, step: Step, number: int, batch: MiniBatch) -> None:
        """Add the gradients of a batch to those of the step; its loss stays on the device."""
        draws = np.random.SeedSequence([self.seed, step.epoch, number]).generate_state(2, np.uint64)
        torch.manual_seed(int(draws[0]))  # dropout
        generator = torch.Generator().manual_seed(int(draws[1]))
        with self.accelerator.autocast():
            batch_here = batch.to(self.accelerator.device)
            loss, n_items = self.task.loss(self.model, batch_here, generator)
        loss.backward()
        step.rows.append(batch.rows)
        step.losses.append(torch.stack([loss.detach().float(), n_items.float()]))
        step.tokens += int(batch.real_BG.sum())

    def _step(self, step: Step) -> None:
        items = torch.stack([torch.zeros(2, device=self.accelerator.device), *step.losses])
        add_up_gradients(self.trained, items.sum(dim=0)[1])
        step.norm = nn.utils.clip_grad_norm_(self.trained, self.settings.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = step.learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.readout.unread.append(step)
        self.state.step, self.state.learning_rate = step.number, step.learning_rate
        self.task.after_step(step.number)

    def _is_due(self) -> bool:
        """Whether the step that is being done shall be kept in a checkpoint."""
        every = self.settings.checkpoints
        by_steps = every.steps and (self.state.step + 1) % every.steps == 0
        by_time = every.minutes and time.monotonic() - self.saved >= 60 * every.minutes
        return bool(by_steps or by_time)

    def _after_step(self, epochs: float, due: bool) -> None:
        if self.state.step % self.settings.log_steps == 0:
            found = self.readout.read(self.state)
            self.progress.tell(
                {"step": self.state.step, **(found or {}), **rates(self.state.sums)}, epochs
            )
        if due:
            self.save()

    def save(self) -> None:
        """Write a checkpoint; all processes must call this together."""
        self.readout.read(self.state)
        if self.accelerator.is_main_process:
            keep = self.settings.checkpoints.keep
            state = (self.state, self.model, self.optimizer, self.identity)
            save_checkpoint(self.folder, *state, keep)
        self.saved = time.monotonic()

    def _summary(self, epoch: int) -> dict[str, Any]:
        sums = self.state.sums
        return {
            "epoch": epoch + 1,
            "step": self.state.step,
            "seconds": round(sums.seconds, 3),
            "learning_rate": self.state.learning_rate,
            "train_loss": sums.loss / max(sums.items, 1),
            **rates(sums),
        }


def _cut(numbers: range, size: int) -> list[range]:
    """Cut numbers into ranges of `size`; the last may be shorter."""
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
