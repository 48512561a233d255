"""Percentile bootstrap (Efron & Tibshirani 1993, chapter 13): how sure is a mean over these cells.

Its interval says how much a value would change with other cells, sets or pairs of the same kinds;
training again is not in it.

Shape suffixes: B resamples, N things that are drawn: cells, gene sets or pairs of genes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

NUMBERS_AT_ONCE = 2**23  # bounds the memory: 64 MiB for each array of resamples


@dataclass(frozen=True)
class Interval:
    """A score, or a difference of scores, and the ends of its bootstrap interval."""

    mean: float
    low: float
    high: float


class Resampling(Protocol):
    """A section of the configuration that says how to resample."""

    @property
    def bootstrap_samples(self) -> int:
        """Number of resamples."""

    @property
    def confidence_level(self) -> float:
        """Share of the resamples within the interval."""

    @property
    def seed(self) -> int:
        """Of the draws."""


def resamples(n: int, settings: Resampling, numbers_each: int = 0) -> Iterator[np.ndarray]:
    """Draw n of n things with replacement, again and again.

    The draws depend on `n` and the settings alone: what is measured on the same things with the
    same settings is measured on the same resamples, and differences are paired.

    Parameters
    ----------
    numbers_each
        How many numbers the caller makes of a resample, where these are more than n.

    Yields
    ------
    Positions of some resamples, shape (B, N): as many at a time as the memory is meant for.
    """
    rng = np.random.default_rng(settings.seed)
    at_once = max(1, NUMBERS_AT_ONCE // max(n, numbers_each, 1))
    for start in range(0, settings.bootstrap_samples, at_once):
        yield rng.integers(n, size=(min(at_once, settings.bootstrap_samples - start), n))


def each_resample(n: int, settings: Resampling) -> Iterator[np.ndarray]:
    """Yield the draws of `resamples` one by one, shape (N,)."""
    for drawn_BN in resamples(n, settings):
        yield from drawn_BN


def interval(mean: float, resampled_B: np.ndarray, settings: Resampling) -> Interval:
    """Return a mean, as given, between the percentiles of the resampled values."""
    outside = (1 - settings.confidence_level) / 2
    low, high = np.quantile(resampled_B, [outside, 1 - outside])
    return Interval(float(mean), float(low), float(high))
