"""A training on its way: epochs, optimizer steps, checkpoints, history."""

import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from scbert.config import Optimizer
from scbert.training.checkpoint import read_best, read_checkpoint, restore, save_checkpoint
from scbert.training.hardware import gpu_memory, peak_of_run
from scbert.training.losses import PendingLosses, Step
from scbert.training.mini_batch import MiniBatch, Prefetched
from scbert.training.optimizer import OptimizerSteps, learning_rate
from scbert.training.processes import (
    in_any_process,
    require_same_weights,
    tensors_of_first,
    together,
    told_by_first,
)
from scbert.training.progress import HISTORY, Progress, rates, require_finite, truncate_lines
from scbert.training.state import Checkpoint, Numbers, Stopping, StopRequest, Task

log = logging.getLogger(__name__)
SETBACK = 0.5  # of the learning rate, with each


class Trainer:
    """A task on its way: its optimizer steps, and the state that a checkpoint holds."""

    def __init__(
        self, task: Task, settings: Optimizer, seed: int, accelerator: Accelerator, folder: Path
    ) -> None:
        self.task, self.settings = task, settings
        self.accelerator, self.folder = accelerator, folder
        self.optimizer_steps = OptimizerSteps(task, settings, seed, accelerator)
        self.batches_per_step = settings.accumulation * accelerator.num_processes
        self.identity = {**task.identity, "batches_per_step": self.batches_per_step}
        self.state = self._load() or Checkpoint()
        if accelerator.is_main_process:
            truncate_lines(folder / HISTORY, self.state.step)
        self.stop = StopRequest()
        self.pending_losses = PendingLosses(
            settings.explosion, folder, task.name_cells, task.least_first_loss
        )
        self.saved = time.monotonic()
        history = folder / HISTORY if accelerator.is_main_process else None
        self.progress = Progress(history, settings.epochs)
        self.peak = peak_of_run(accelerator.device, accelerator.mixed_precision)

    def _load(self) -> Checkpoint | None:
        """Continue where the checkpoint ends; all processes as the first one begins.

        It alone looks into the folder: on a network file system others may see an older one. Also
        of new weights, what follows from the same seed has other bits on another kind of CPU.
        """
        model, first = self.optimizer_steps.model, self.accelerator.is_main_process
        found = together(partial(read_checkpoint, self.folder, self.identity), mine=first)
        state = told_by_first(None if found is None else found.state)
        if state is None:
            model.load_state_dict(tensors_of_first(model.state_dict()))
        else:
            tensors = tensors_of_first(found.tensors if found else {})
            restore(tensors, model, self.optimizer_steps.optimizer)
            log.info("continuing after step %d, epoch %d", state.step, state.epochs_done + 1)
        require_same_weights(model)
        return state

    def take_best(self) -> None:
        """Put the best weights back, if a number chose any."""
        first = self.accelerator.is_main_process
        best = together(partial(read_best, self.folder, self.state), mine=first)
        if self.state.best_name is not None:
            self.task.model.load_state_dict(tensors_of_first(best or {}))

    def go_back(self) -> int:
        """Take up the last checkpoint again, with half the learning rate; return its step.

        It is of weights that no bad loss has reached.
        """
        setbacks = self.state.setbacks + 1
        self.pending_losses.unread.clear()
        self.optimizer_steps.optimizer.zero_grad()
        self.state = self._load() or Checkpoint()
        self.state.setbacks = setbacks
        if self.accelerator.is_main_process:
            truncate_lines(self.folder / HISTORY, self.state.step)
        return self.state.step

    def run(self) -> None:
        """Train the epochs that are left."""
        for epoch in range(self.state.epochs_done, self.settings.epochs):
            if self._patience_is_over():
                log.info("validation got no better for %d epochs", self.task.patience)
                break
            self._train(epoch, self.task.plan(epoch))
            record = self._summary(epoch)
            require_same_weights(self.optimizer_steps.model)
            self.optimizer_steps.model.eval()
            with torch.no_grad(), self.accelerator.autocast():
                record |= self.task.validate(self.stop)
            self.stop.agree()
            require_finite(record)
            self.state.add(record, self.task.merit)
            self.save()
            self.progress.tell(record, epoch + 1)

    def _patience_is_over(self) -> bool:
        waited = self.state.epochs_since_best(self.task.merit)
        return self.task.patience is not None and waited >= self.task.patience

    def _train(self, epoch: int, plan: Sequence[np.ndarray]) -> None:
        """Do the optimizer steps of an epoch that are left; each process does its share of each."""
        self.optimizer_steps.model.train()
        steps = _cut(range(self.state.batches_done, len(plan)), self.batches_per_step)
        rank, n_processes = self.accelerator.process_index, self.accelerator.num_processes
        own = [(number, plan[number]) for step in steps for number in step[rank::n_processes]]

        def make(one: tuple[int, np.ndarray]) -> MiniBatch:
            return self.optimizer_steps.make(epoch, *one)

        with Prefetched(make, own) as batches, self._bar(len(steps)) as bar:
            for step in steps:
                started, waited = time.perf_counter(), batches.waited
                rate = learning_rate(self.settings, epoch, step[0] / len(plan))
                rate *= SETBACK**self.state.setbacks
                done = Step(self.state.step + 1, epoch, rate)
                # Not strict: `batches` goes on to those of the next step.
                for number, batch in zip(step[rank::n_processes], batches, strict=False):
                    self.optimizer_steps.add_gradients(done, number, batch)
                    if self.stop.received:
                        break  # before the optimizer's step: it is done again after a restart
                # All must agree: they save together, and clocks and signals differ.
                told, due = in_any_process(self.stop.received, self._is_due())
                if told:
                    raise Stopping
                self.optimizer_steps.take(done)
                self._record(done)
                self.state.batches_done = step[-1] + 1
                self.state.sums.seconds += time.perf_counter() - started
                self.state.sums.waited += batches.waited - waited
                self._after_step(epoch + self.state.batches_done / len(plan), due)
                bar.update()
        self._read()

    def _bar(self, n_steps: int) -> tqdm:
        silent = None if self.accelerator.is_main_process else True  # None: not on a terminal
        return tqdm(total=n_steps, leave=False, disable=silent)

    def _record(self, step: Step) -> None:
        self.pending_losses.unread.append(step)
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
            found = self._read()
            self.progress.tell({"step": self.state.step, **(found or {}), **self._rates()}, epochs)
        self.progress.pass_step(self.state.step, epochs)
        if due:
            self.save()

    def save(self) -> None:
        """Write a checkpoint; all processes must call this together."""
        self._read()
        write = partial(
            save_checkpoint,
            self.folder,
            self.state,
            model=self.optimizer_steps.model,
            optimizer=self.optimizer_steps.optimizer,
            identity=self.identity,
            keep=self.settings.checkpoints.keep,
        )
        together(write, mine=self.accelerator.is_main_process)
        self.saved = time.monotonic()

    def _summary(self, epoch: int) -> Numbers:
        sums = self.state.sums
        return {
            "epoch": epoch + 1,
            "step": self.state.step,
            "seconds": round(sums.seconds, 3),
            "learning_rate": self.state.learning_rate,
            "train_loss": sums.loss / max(sums.items, 1),
            **self._rates(),
        }

    def _read(self) -> Numbers | None:
        """Read losses; a GPU still works on steps whose kernels the CPU has long sent off."""
        started = time.perf_counter()
        found = self.pending_losses.read(self.state)
        self.state.sums.seconds += time.perf_counter() - started
        return found

    def _rates(self) -> Numbers:
        return {**rates(self.state.sums, self.peak), **gpu_memory(self.accelerator.device)}


def _cut(numbers: range, size: int) -> list[range]:
    """Cut numbers into ranges of `size`; the last may be shorter."""
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
