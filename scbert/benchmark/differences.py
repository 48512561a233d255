"""The first method minus each other, on the same cells: paired differences with their intervals."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scbert.benchmark.score import KEYS, Pooled, asked, grouped, pool, read_folds
from scbert.config import Evaluate
from scbert.evidence import metrics

COLUMNS = (*KEYS, "metric", "value", "low", "high", "cells")
COMPARED = ("accuracy", "macro_f1")


def differences(
    folder: Path, dataset: str, seed: int, methods: list[str], settings: Evaluate
) -> Iterator[dict[str, Any]]:
    """Yield the score of the first method minus that of each other.

    Parameters
    ----------
    folder
        As for `read_folds`.
    """
    first, *others = methods
    for (protocol, level), tasks in grouped(folder):
        ours = pool(read_folds(folder, tasks, first))
        for method in asked(folder, tasks, others):
            theirs = pool(read_folds(folder, tasks, method))
            if ours and theirs:
                key = dict(zip(KEYS, (dataset, protocol, level, seed, method), strict=True))
                yield from ({**key, **line} for line in _difference(ours, theirs, settings))


def _difference(ours: Pooled, theirs: Pooled, settings: Evaluate) -> Iterator[dict[str, Any]]:
    classes = sorted({*ours.classes, *theirs.classes})
    found = metrics.paired_difference(ours.true, [ours.label], [theirs.label], classes, settings)
    for metric in COMPARED:
        ends = found[metric]
        yield {
            "metric": metric,
            "value": ends["mean"],
            "low": ends["low"],
            "high": ends["high"],
            "cells": len(ours.true),
        }
