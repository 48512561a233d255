"""What a novelty threshold is worth: leave each known type out and see how many cells are noticed.

Training again without the type would take as long as training, once per type. Here its column of
the logits, its class mean and its share of the covariance are forgotten instead. The network itself
has seen the type, so the numbers are upper bounds more than forecasts: by how much they exceed what
training again gives is measured by benchmarks/novelty.py.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from scbert.evidence.confidence import fit_temperature, novelty_threshold
from scbert.evidence.novelty import LabelledOutputs, fit_novelty, novelty

FEWEST_TYPES = 3  # of two, one would be left: nothing to be unsure between


def expected_novel_detection(
    training: LabelledOutputs,
    validation: LabelledOutputs,
    classes: Sequence[str],
    score: str,
    false_unknown_rate: float,
) -> list[dict[str, Any]]:
    """Leave each type out in turn and calibrate again on the validation cells of the others.

    Parameters
    ----------
    classes
        Names of the types, in the order of the logits.
    score
        The novelty score, see `fit_novelty`.
    false_unknown_rate
        Largest share of the other types' validation cells that is called unknown.

    Returns
    -------
    For each type with validation cells: "cell_type", their number "n", "detected", the share of
    them that would be called unknown, and "auroc", of them against the other types' validation
    cells. Empty for fewer than three types.
    """
    if len(classes) < FEWEST_TYPES:
        return []
    return [
        {"cell_type": name, **_leave_out(training, validation, column, score, false_unknown_rate)}
        for column, name in enumerate(classes)
        if (validation.label == column).any()
    ]


def _leave_out(
    training: LabelledOutputs,
    validation: LabelledOutputs,
    column: int,
    score: str,
    false_unknown_rate: float,
) -> dict[str, Any]:
    known = validation.without_type(column)
    temperature = fit_temperature(known.logits, known.label)
    fitted = fit_novelty(training.without_type(column), known, temperature, score)
    rows = validation.label == column
    seen = novelty(known.logits, known.vectors, fitted)
    novel = novelty(
        np.delete(validation.logits[rows], column, axis=1), validation.vectors[rows], fitted
    )
    is_novel = np.repeat([0, 1], [len(seen), len(novel)])
    return {
        "n": len(novel),
        "detected": float((novel > novelty_threshold(seen, false_unknown_rate)).mean()),
        "auroc": float(roc_auc_score(is_novel, np.concatenate([seen, novel]))),
    }
