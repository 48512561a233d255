"""Which epoch of a fine-tuning is kept."""

from collections.abc import Mapping, Sequence
from typing import Any


def merit(record: Mapping[str, Any]) -> tuple[float, float]:
    """Return what is compared between epochs: macro F1 of the validation cells, then their loss."""
    return record["validation_macro_f1"], -record["validation_loss"]


def best_epoch(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the record of the epoch that was kept; of equals the first."""
    return max(history, key=merit)
