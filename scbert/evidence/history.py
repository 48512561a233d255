"""history.jsonl: what is read again of each epoch of a training; its further numbers stay there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from scbert.evidence.record import Record, explained


@dataclass(frozen=True)
class Epoch(Record):
    """An epoch, from 1, and the loss: nats per hidden gene in pretraining, else nats per cell.

    That of the training cells is a mean over the epoch.
    """

    epoch: int
    train_loss: float
    validation_loss: float


@dataclass(frozen=True)
class PretrainingEpoch(Epoch):
    """The accuracy is that of hidden genes of the held-out cells."""

    validation_accuracy: float


@dataclass(frozen=True)
class FinetuningEpoch(Epoch):
    """The scores are those of the validation cells."""

    validation_macro_f1: float

    @property
    def merit(self) -> tuple[float, float]:
        """What is compared between epochs, higher is better: macro F1, then minus the loss."""
        return self.validation_macro_f1, -self.validation_loss


Kind = TypeVar("Kind", bound=Epoch)


def read_history(path: Path, kind: type[Kind]) -> list[Kind]:
    """Return the epochs; none if the encoder stayed as it was pretrained.

    Raises
    ------
    ValueError
        If a line does not hold what an epoch of this kind has.
    """
    with explained(path):
        return [kind.of(json.loads(line)) for line in path.read_text().splitlines()]


def best_epoch(history: Sequence[FinetuningEpoch]) -> FinetuningEpoch:
    """Return the epoch that was kept; of equals the first."""
    return max(history, key=lambda epoch: epoch.merit)
