"""The learning rate, as a share of its peak."""

import math

from scbert.config import Optimizer, Restarts


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
