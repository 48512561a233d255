"""From which novelty score on a cell is called novel, and what that is worth.

Each known type is left out in turn, to see how many of its cells would be noticed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scbert.calibration.confidence import fit_temperature
from scbert.calibration.fitted import NovelDetection, ThresholdCells
from scbert.calibration.novelty import LabelledOutputs, fit_novelty, novelty
from scbert.config import Annotate

CURVE_POINTS = 201
FEWEST_TYPES = 3  # of two, one would be left: nothing to be unsure between
Positions = Callable[[int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class UnknownScores:
    """Scores of calling cells unknown; a share of no cell is None.

    share_unknown
        Of all cells.
    accuracy_of_accepted
        Share of right labels among the cells that are not called unknown.
    strict_novel_accuracy
        The paper's: right calls among the cells that are novel or called unknown, so that
        calling all cells unknown does not help. (Intersection over union.)
    known_accuracy
        Share of the cells of known types that are not called unknown and get the right label; the
        paper names this score but does not define it.
    novel_detected, false_unknown
        Share of the novel cells, and of the cells of known types, that are called unknown.
    """

    share_unknown: float | None
    accuracy_of_accepted: float | None
    strict_novel_accuracy: float | None
    known_accuracy: float | None
    novel_detected: float | None
    false_unknown: float | None


@dataclass(frozen=True)
class Coverage:
    """The accuracy of the cells that are accepted, against the share that is.

    `coverage` are at most 201 shares of cells, ascending and last 1; `accuracy` that of the cells
    accepted; `area` the mean of the accuracy over all coverages 1/n to 1.
    """

    coverage: list[float]
    accuracy: list[float]
    area: float


@dataclass(frozen=True)
class KnownCells:
    """Novelty scores of cells whose types are known, and the column of each type, both (cells,).

    `which` says which cells these are, for the card.
    """

    scores: np.ndarray
    label: np.ndarray
    which: ThresholdCells

    def without(self, column: int) -> np.ndarray:
        """Return the scores of the cells of the other types."""
        return self.scores[self.label != column]


@dataclass(frozen=True)
class NoveltyCells:
    """Labelled cells by which new types are noticed, and how it is known whether they would be.

    Parameters
    ----------
    training
        The training cells, with their places among the principal components: what is known.
    validation
        Cells of which the types are known, and how the experts answer without them.
    positions_without
        Gives the positions of all training and validation cells among the principal components
        that are learned without the type of a column.
    left_out
        Cells that were left out, see `novelty_left_out`, which fit the threshold; None: the
        validation cells do, which the components have then not learned from.
    """

    training: LabelledOutputs
    validation: LabelledOutputs
    positions_without: Positions
    left_out: KnownCells | None = None


def novelty_threshold(scores: np.ndarray, false_unknown_rate: float) -> float:
    """Choose the novelty score above which a cell is called unknown.

    Parameters
    ----------
    scores
        Shape (cells,), novelty scores of validation cells, whose types are all known.
    false_unknown_rate
        Largest share of them that may lie above the threshold and so be called unknown wrongly.

    Returns
    -------
    The score of one of the validation cells.

    Raises
    ------
    ValueError
        If there is no validation cell.
    """
    if len(scores) == 0:
        raise ValueError(
            "no validation cell is given, so the threshold of novelty cannot be set. Check "
            "the part 'validation' of the split."
        )
    return float(np.quantile(scores, 1 - false_unknown_rate, method="higher"))


def unknown_scores(unknown: np.ndarray, is_novel: np.ndarray, correct: np.ndarray) -> UnknownScores:
    """Score which cells are called unknown.

    Parameters
    ----------
    unknown
        Shape (cells,), whether a cell is called unknown.
    is_novel
        Shape (cells,), whether its type is one that the model cannot know.
    correct
        Shape (cells,), whether its label is its type; never so for a novel cell.
    """
    known = ~is_novel
    novel_or_unknown = unknown | is_novel
    return UnknownScores(
        share_unknown=_share(unknown),
        accuracy_of_accepted=_share(correct[~unknown]),
        strict_novel_accuracy=(
            _share((unknown & is_novel)[novel_or_unknown]) if is_novel.any() else None
        ),
        known_accuracy=_share((correct & ~unknown)[known]),
        novel_detected=_share(unknown[is_novel]),
        false_unknown=_share(unknown[known]),
    )


def novelty_auroc(score: np.ndarray, is_novel: np.ndarray) -> float | None:
    """Return the probability that a novel cell scores above a known one; None without either."""
    if is_novel.all() or not is_novel.any():
        return None
    return _auroc(score, is_novel)


def _auroc(score: np.ndarray, is_novel: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  a second, which annotate need not wait

    return float(roc_auc_score(is_novel, score))


def coverage_accuracy(score: np.ndarray, correct: np.ndarray) -> Coverage:
    """Follow the accuracy as ever more cells are accepted, the least novel first.

    Parameters
    ----------
    score
        Shape (cells,), higher for cells that are called unknown earlier. Cells that score the same
        are accepted in any order: each counts with the mean of its group.
    correct
        Shape (cells,), whether the label is right; not so for a cell of a type nobody knows.

    Raises
    ------
    ValueError
        If there is no cell.
    """
    if not len(score):
        raise ValueError(
            "no cell is given, so no share of them can be accepted. Check the part 'test' of the "
            "split."
        )
    _, group = np.unique(score, return_inverse=True)
    mean_of_group = np.bincount(group, weights=correct) / np.bincount(group)
    right = mean_of_group[np.sort(group)].cumsum()
    accepted = np.arange(1, len(score) + 1)
    accuracy = right / accepted
    kept = np.unique(np.linspace(0, len(score) - 1, CURVE_POINTS).round().astype(int))
    return Coverage(
        coverage=(accepted[kept] / len(score)).tolist(),
        accuracy=accuracy[kept].tolist(),
        area=float(accuracy.mean()),
    )


def _share(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def expected_novel_detection(
    cells: NoveltyCells, classes: Sequence[str], settings: Annotate
) -> list[NovelDetection]:
    """Leave each type out in turn and calibrate again on the validation cells of the others.

    Parameters
    ----------
    classes
        Names of the types, in the order of the logits.
    settings
        The novelty score, see `fit_novelty`, and the largest share of the other types' cells that
        may be called unknown.

    Returns
    -------
    What would become of each type with validation cells, if there are some of others. Empty for
    fewer than three types.
    """
    if len(classes) < FEWEST_TYPES:
        return []
    found, left_out = [], cells.left_out
    for column, name in enumerate(classes):
        of_type = cells.validation.label == column
        if not of_type.any() or _only(column, cells.validation, left_out):
            continue
        training_positions, positions = cells.positions_without(column)
        told = _notice(
            name,
            replace(cells.training, positions=training_positions).without_type(column),
            replace(cells.validation, positions=positions).without_column(column),
            settings=settings,
            known=None if left_out is None else left_out.without(column),
        )
        found.append(told)
    return found


def _only(column: int, *known: LabelledOutputs | KnownCells | None) -> bool:
    """Whether some have cells of this type alone: nothing then says what others would look like."""
    return any((cells.label == column).all() for cells in known if cells is not None)


def _notice(
    cell_type: str,
    training: LabelledOutputs,
    validation: LabelledOutputs,
    *,
    settings: Annotate,
    known: np.ndarray | None,
) -> NovelDetection:
    """Say how many of the validation cells with the label -1 are noticed.

    Parameters
    ----------
    known
        Novelty scores of cells of the other types, which were left out; None: the other validation
        cells, which are then no part of `training`.
    """
    is_novel = validation.label < 0
    others = validation.of(~is_novel)
    temperature = fit_temperature(others.logits, others.label)
    fitted = fit_novelty(training, temperature, settings.novelty_score)
    scores = novelty(validation, fitted)
    known = scores[~is_novel] if known is None else known
    threshold = novelty_threshold(known, settings.false_unknown_rate)
    new = scores[is_novel]
    return {
        "cell_type": cell_type,
        "n": len(new),
        "detected": float((new > threshold).mean()),
        "auroc": _auroc(np.concatenate([new, known]), np.arange(len(new) + len(known)) < len(new)),
    }
