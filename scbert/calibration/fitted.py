"""Content of calibration.json: numbers fitted to labelled cells, and how well these were named.

Dictionaries, for annotation hands them on as they were read, with keys of other versions.
"""

from typing import Literal, NotRequired, TypedDict

# Which cells fit the threshold of the unknown flag.
ThresholdCells = Literal["validation cells", "batches left out", "cells left out"]


class FittedNovelty(TypedDict):
    """What a novelty score must know; the distance alone needs places among the components."""

    novelty_score: str
    temperature: float  # that logits are divided by
    type_positions: NotRequired[list[list[float]]]  # (types, components), the mean of each type
    position_cholesky: NotRequired[list[list[float]]]  # lower triangle of the types' covariance


class NovelDetection(TypedDict):
    """What would become of the validation cells of a type if it were new."""

    cell_type: str
    n: int  # validation cells of the type
    detected: float  # share of them that would be called unknown
    auroc: float  # of their novelty, against cells of the other types that were held out


class Levels(TypedDict):
    """From which probability on a type, and a parent of types, is named."""

    error_rate: float  # largest share of wrong labels that each may give
    child_threshold: float
    parent_threshold: float


class Calibration(FittedNovelty):
    """What a model needs to say how sure it is, and what that is worth on held-out cells."""

    novelty_threshold: float  # a cell of higher novelty is called unknown
    false_unknown_rate: float  # share of the cells that fit the threshold it may call unknown
    threshold_from: NotRequired[ThresholdCells]
    expected_novel_detection: list[NovelDetection]
    levels: Levels | None  # None: the labels have no parents
    validation_cells: int  # 0: nothing was there to fit it by
    held_out_ece_before: NotRequired[float]  # expected calibration error, temperature 1
    held_out_ece: NotRequired[float]


class Judged(TypedDict):
    """How well cells were named that were not learned from; None without such cells."""

    macro_f1: float | None
    log_loss: float | None  # nats per cell
    f1_of_type: list[float | None]  # in the order of the labels


class JudgedExpert(Judged):
    """An expert alone; its logits rise by `logit_adjustment` times the rarity of a type."""

    weight: float
    temperature: float
    logit_adjustment: NotRequired[float]  # not of models made before it


class Gain(TypedDict):
    """A mean over cells, and the ends of its interval."""

    mean: float
    low: float
    high: float


class EncoderAdds(TypedDict):
    """What the encoder adds to the other experts."""

    kept: bool
    macro_f1: float  # with it, less that without
    log_loss_gain: Gain  # nats per cell
    weights_without: dict[str, float]


class OutOfFold(Judged):
    """The experts together, on cells that none had learned from."""

    cells: int
    folds_by: str  # what was left out in turn: batch, cell or the validation cells
    by_chance: dict[str, float] | None  # macro_f1 and high, of shuffled labels
    accuracy: float | None
    encoder_adds: EncoderAdds | None  # None: there is none, or it is alone


class CommitteeScores(TypedDict):
    """What a committee of experts adds to the calibration."""

    experts: dict[str, JudgedExpert]
    out_of_fold: OutOfFold


class ModelCalibration(Calibration, total=False):
    """The whole file; a model that another program trained has no experts."""

    experts: dict[str, JudgedExpert]
    out_of_fold: OutOfFold
