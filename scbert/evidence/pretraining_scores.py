"""Scores of a pretrained network on hidden genes of held-out cells: validation.json."""

from dataclasses import dataclass

from scbert.evidence.bootstrap import Interval
from scbert.evidence.record import Record
from scbert.network.layer_attention import LayerAttention


@dataclass(frozen=True)
class BinScores:
    """How well bins were guessed: loss in nats per gene, and the share of right guesses."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class KeptVisible:
    """The same of targets that the network could see, as in training; None if there are none."""

    tokens: int
    loss: float | None
    accuracy: float | None


@dataclass(frozen=True)
class HeldOutScores(Record):
    """Scores of the network over `masked_tokens` hidden genes of `cells` held-out cells.

    `predictors` need no network, see `bin_predictors`; `skill` is 1 - loss / loss of the best one.
    """

    cells: int
    held_out_by: str  # sample: no cell of their study was trained on; or cell
    masked_tokens: int
    loss: float  # nats per gene
    accuracy: float
    predictors: dict[str, BinScores]
    best_predictor: str
    skill: Interval
    confidence_level: float
    kept_visible: KeptVisible


@dataclass(frozen=True)
class PretrainingScores(HeldOutScores):
    """Content of validation.json of a model that `pretrain` made."""

    attention: list[LayerAttention]
