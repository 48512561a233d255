"""The epochs of a training, and which of a fine-tuning is kept."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return a record for each epoch; none if the encoder stayed as it was pretrained."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def merit(record: Mapping[str, Any]) -> tuple[float, float]:
    """Return what is compared between epochs: macro F1 of the validation cells, then their loss."""
    return record["validation_macro_f1"], -record["validation_loss"]


def best_epoch(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the record of the epoch that was kept; of equals the first."""
    return max(history, key=merit)
