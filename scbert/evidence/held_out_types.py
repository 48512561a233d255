"""What a novelty threshold is worth: leave each known type out and see how many cells are noticed.

Training again without the type would take as long as training, once per type. Here its column of
the logits, its class mean and its share of the covariance are forgotten instead, and the principal
components are learned again without it. The experts themselves have seen the type, so scores that
use their logits promise too much.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from scbert.config import Annotate
from scbert.evidence.confidence import fit_temperature
from scbert.evidence.novelty import LabelledOutputs, fit_novelty, novelty
from scbert.evidence.refusal import KnownCells, novelty_threshold

FEWEST_TYPES = 3  # of two, one would be left: nothing to be unsure between

Positions = Callable[[int], tuple[np.ndarray, np.ndarray]]


def expected_novel_detection(
    training: LabelledOutputs,
    validation: LabelledOutputs,
    classes: Sequence[str],
    settings: Annotate,
    positions_without: Positions,
    left_out: KnownCells | None = None,
) -> list[dict[str, Any]]:
    """Leave each type out in turn and calibrate again on the validation cells of the others.

    Parameters
    ----------
    classes
        Names of the types, in the order of the logits.
    settings
        The novelty score, see `fit_novelty`, and the largest share of the other types' cells that
        may be called unknown.
    positions_without
        Gives the positions of all training and validation cells among the principal components
        that are learned without the type of a column.
    left_out
        The cells that fit the threshold; None: the validation cells do.

    Returns
    -------
    For each type with validation cells: "cell_type", their number "n", "detected", the share of
    them that would be called unknown, and "auroc", of them against the other types' validation
    cells. Empty for fewer than three types.
    """
    if len(classes) < FEWEST_TYPES:
        return []
    found, rate = [], settings.false_unknown_rate
    for column, name in enumerate(classes):
        if not (validation.label == column).any():
            continue
        training_positions, positions = positions_without(column)
        told = _notice(
            replace(training, positions=training_positions).without_type(column),
            replace(validation, positions=positions).without_column(column),
            settings,
            None if left_out is None else left_out.threshold(rate, without=column),
        )
        found.append({"cell_type": name, **told})
    return found


def _notice(
    training: LabelledOutputs,
    validation: LabelledOutputs,
    settings: Annotate,
    threshold: float | None,
) -> dict[str, Any]:
    """Say how many of the validation cells with the label -1 are noticed."""
    is_novel = validation.label < 0
    known = validation.of(~is_novel)
    temperature = fit_temperature(known.logits, known.label)
    fitted = fit_novelty(training, temperature, settings.novelty_score)
    scores = novelty(validation, fitted)
    if threshold is None:
        threshold = novelty_threshold(scores[~is_novel], settings.false_unknown_rate)
    return {
        "n": int(is_novel.sum()),
        "detected": float((scores[is_novel] > threshold).mean()),
        "auroc": float(roc_auc_score(is_novel, scores)),
    }
