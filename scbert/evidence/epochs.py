"""Which epoch of a fine-tuning is kept."""

from collections.abc import Mapping, Sequence
from typing import Any


def merit(record: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return what is compared between epochs: macro F1 of the validation cells, then their loss.

    Then, of a hybrid, macro F1 of the encoder's half. Where the logistic regression alone names all
    validation cells right, the first epoch would be kept else, whose encoder has learned nothing,
    and with it the vectors of the cells.
    """
    encoder = record.get("validation_macro_f1_encoder", 0.0)
    return record["validation_macro_f1"], -record["validation_loss"], encoder


def best_epoch(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the record of the epoch that was kept; of equals the first."""
    return max(history, key=merit)
