"""Scores of calling cells unknown: are they the right ones, and what are other labels worth.

Novel accuracy and known accuracy: Yang et al. 2022, Fig. 5, where one type of MacParland's liver
is left out and scBERT reaches 0.329 and 0.942. Coverage and accuracy: Geifman & El-Yaniv 2017,
NeurIPS, "Selective classification for deep neural networks".
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

CURVE_POINTS = 201


@dataclass(frozen=True)
class KnownCells:
    """Novelty scores of cells whose types are known, and the column of each type, both (cells,)."""

    scores: np.ndarray
    label: np.ndarray

    def threshold(self, false_unknown_rate: float, without: int | None = None) -> float:
        """Return `novelty_threshold` of these cells, but for those of one type."""
        return novelty_threshold(self.scores[self.label != without], false_unknown_rate)


def novelty_threshold(scores: np.ndarray, false_unknown_rate: float) -> float:
    """Choose the novelty score above which a cell is called unknown.

    Parameters
    ----------
    scores
        Shape (cells,), novelty scores of validation cells, whose types are all known.
    false_unknown_rate
        Largest share of them that may lie above the threshold and so be refused wrongly.

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
            "no validation cell is given, so nothing says how high the score of a known type may "
            "be. Check the part 'validation' of the split."
        )
    return float(np.quantile(scores, 1 - false_unknown_rate, method="higher"))


def refusal_scores(
    refused: np.ndarray, is_novel: np.ndarray, correct: np.ndarray
) -> dict[str, float | None]:
    """Score which cells are called unknown.

    Parameters
    ----------
    refused
        Shape (cells,), whether a cell is called unknown.
    is_novel
        Shape (cells,), whether its type is one that the model cannot know.
    correct
        Shape (cells,), whether its label is its type; never so for a novel cell.

    Returns
    -------
    share_unknown
        Of all cells.
    accuracy_of_accepted
        Share of right labels among the cells that are not refused.
    strict_novel_accuracy
        The paper's: right calls among the cells that are novel or refused, so that calling all
        cells unknown does not help. (Intersection over union.)
    known_accuracy
        Share of the cells of known types that are not refused and get the right label; the paper
        names this score but does not define it.
    novel_detected, false_unknown
        Share of the novel cells, and of the cells of known types, that are refused.

    A score over no cells is None.
    """
    known = ~is_novel
    return {
        "share_unknown": _share(refused),
        "accuracy_of_accepted": _share(correct[~refused]),
        "strict_novel_accuracy": (
            _share((refused & is_novel)[refused | is_novel]) if is_novel.any() else None
        ),
        "known_accuracy": _share((correct & ~refused)[known]),
        "novel_detected": _share(refused[is_novel]),
        "false_unknown": _share(refused[known]),
    }


def novelty_auroc(score: np.ndarray, is_novel: np.ndarray) -> float | None:
    """Return the probability that a novel cell scores above a known one; None without either."""
    if is_novel.all() or not is_novel.any():
        return None
    return float(roc_auc_score(is_novel, score))


def coverage_accuracy(score: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    """Follow the accuracy as ever more cells are accepted, the least novel first.

    Parameters
    ----------
    score
        Shape (cells,), higher for cells that are refused earlier. Cells that score the same are
        accepted in any order: each counts with the mean of its group.
    correct
        Shape (cells,), whether the label is right; not so for a cell of a type nobody knows.

    Returns
    -------
    "coverage", at most 201 shares of cells, ascending and last 1; "accuracy" among the cells
    accepted; and "area", the mean of the accuracy over all coverages 1/n to 1.

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
    return {
        "coverage": (accepted[kept] / len(score)).tolist(),
        "accuracy": accuracy[kept].tolist(),
        "area": float(accuracy.mean()),
    }


def _share(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
