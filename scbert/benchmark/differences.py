"""The first method minus each other, on the same cells: paired differences with their intervals."""

from collections.abc import Iterator
from typing import Any

from scbert.benchmark.score import KEYS, Group, pool, with_ends
from scbert.config import Evaluate
from scbert.evidence import metrics

COLUMNS = (*KEYS, "metric", "value", "low", "high", "cells")
COMPARED = ("accuracy", "macro_f1")


def differences(group: Group, first: str, settings: Evaluate) -> Iterator[dict[str, Any]]:
    """Yield the score of the first method minus that of each other, where both have answered."""
    pooled = {method: pool(folds) for method, folds in group.folds.items()}
    ours = pooled.pop(first, None)
    for method, theirs in pooled.items():
        if not (ours and theirs):
            continue
        classes = sorted({*ours.classes, *theirs.classes})
        labels = [ours.label], [theirs.label]
        found = metrics.paired_difference(ours.true, *labels, classes, settings)
        for metric in COMPARED:
            key = group.key | {"method": method, "metric": metric, "cells": len(ours.true)}
            yield key | with_ends(found[metric])
