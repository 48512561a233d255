"""Optimizer steps and their learning rate.

The gradients of mini-batches are added up, over processes too, and applied.
"""

import math

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from scbert.config import Optimizer, Restarts
from scbert.training.losses import Step
from scbert.training.mini_batch import MiniBatch
from scbert.training.processes import add_up_gradients
from scbert.training.state import Task


class OptimizerSteps:
    """A task's model and AdamW on those of its weights that are trained.

    Every draw follows from the seed, the number of the epoch and the number of the batch in it.
    """

    def __init__(
        self, task: Task, settings: Optimizer, seed: int, accelerator: Accelerator
    ) -> None:
        self.task, self.settings, self.seed = task, settings, seed
        self.accelerator = accelerator
        self.model = task.model.to(accelerator.device)
        self.trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=accelerator.device.type == "cuda",  # on a CPU, other bits than those measured
        )

    def make(self, epoch: int, number: int, rows: np.ndarray) -> MiniBatch:
        """Make a batch as the device takes it: called ahead of the network, in a thread."""
        _, seed = self._draws(epoch, number)
        batch = self.task.make(rows, torch.Generator().manual_seed(seed))
        return batch.bound_for(self.accelerator.device)

    def _draws(self, epoch: int, number: int) -> tuple[int, int]:
        """Return the seeds of dropout and of what is drawn for a batch."""
        sequence = np.random.SeedSequence([self.seed, epoch, number])
        dropout, batch = sequence.generate_state(2, np.uint64)
        return int(dropout), int(batch)

    def add_gradients(self, step: Step, number: int, batch: MiniBatch) -> None:
        """Add the gradients of a batch to those of the step; its loss stays on the device."""
        # Dropout draws from torch's global generator, whose state no checkpoint holds.
        torch.manual_seed(self._draws(step.epoch, number)[0])
        with self.accelerator.autocast():
            loss, n_items = self.task.loss(self.model, batch.to(self.accelerator.device))
        loss.backward()
        step.rows.append(batch.rows)
        step.losses.append(torch.stack([loss.detach().float(), n_items.float()]))
        lengths = batch.lengths()
        step.tokens += int(lengths.sum())
        step.flop += self.task.flop(lengths)

    def take(self, step: Step) -> None:
        """Move the weights by the gradients; all processes must call this together.

        Gradients are sums over batches and over processes, divided once by the number of items of
        all of them: no mean of means, whatever the batches hold.
        """
        # At the end of an epoch a process may have no batch; it must send something all the same.
        items = torch.stack([torch.zeros(2, device=self.accelerator.device), *step.losses])
        add_up_gradients(self.trained, items.sum(dim=0)[1])
        step.norm = nn.utils.clip_grad_norm_(self.trained, self.settings.clip_norm)
        # No scheduler: the rate follows from the position, so no checkpoint must hold its state.
        for group in self.optimizer.param_groups:
            group["lr"] = step.learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()


def learning_rate(settings: Optimizer, epoch: int, progress: float) -> float:
    """Return the learning rate.

    Parameters
    ----------
    epoch
        Counted from 0.
    progress
        Share of this epoch that is done, in [0, 1).
    """
    if settings.restarts is not None:
        return restarting(settings.learning_rate, settings.restarts, epoch)
    done = (epoch + progress) / settings.epochs
    return settings.learning_rate * cosine(done, settings.warmup)


def cosine(progress: float, warmup: float) -> float:
    """Return the share of the peak: linear warm-up, then a cosine down to zero, over the run."""
    if progress < warmup:
        # With a rate of 0 the first step would do nothing.
        return max(progress / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def restarting(peak: float, settings: Restarts, epoch: int) -> float:
    """Return the learning rate of the original: one value per epoch, in cycles that grow.

    A cycle rises linearly for `warmup` epochs, then falls as a cosine; the next has a lower peak
    and a longer fall. Source: CosineAnnealingWarmupRestarts as scBERT@262fd4b uses it.
    """
    length = settings.first_cycle
    while epoch >= length:
        epoch -= length
        length = int((length - settings.warmup) * settings.cycle_factor) + settings.warmup
        peak *= settings.peak_factor
    span = peak - settings.minimum
    if epoch < settings.warmup:
        return settings.minimum + span * epoch / settings.warmup
    angle = math.pi * (epoch - settings.warmup) / (length - settings.warmup)
    return settings.minimum + span * (1 + math.cos(angle)) / 2
