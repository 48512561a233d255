"""Calibration of a model's confidence on held-out cells: calibration.json."""

import logging
from collections.abc import Sequence

import numpy as np

from scbert.calibration.confidence import (
    expected_calibration_error,
    fit_temperature,
    reliability,
    softmax,
)
from scbert.calibration.fitted import Calibration, Levels, NovelDetection
from scbert.calibration.novelty import fit_novelty, novelty
from scbert.calibration.novelty_threshold import (
    KnownCells,
    NoveltyCells,
    expected_novel_detection,
    novelty_threshold,
)
from scbert.calibration.parents import fit_levels
from scbert.config import Annotate

log = logging.getLogger(__name__)
# Where nothing was there to fit it by: confidence is the plain softmax, and no cell is unknown, for
# the novelty score never exceeds 1. Annotation knows it by the number of validation cells.
NOT_CALIBRATED: Calibration = {
    "temperature": 1.0,
    "novelty_score": "max_probability",
    "novelty_threshold": 1.0,
    "false_unknown_rate": 0.0,
    "validation_cells": 0,
    "expected_novel_detection": [],
    "levels": None,
}


def calibrate(
    logits: np.ndarray,
    label: np.ndarray,
    cells: NoveltyCells,
    labels: Sequence[dict[str, str]],
    settings: Annotate,
) -> Calibration:
    """Fit temperature, novelty score and thresholds; none of them sees a test cell.

    Parameters
    ----------
    logits, label
        What the experts together say of labelled cells that they have not learned from, and the
        types: they fit the temperature and the thresholds of the levels.
    cells
        Their places among the components of the training cells fit the novelty threshold.
    labels
        Name, ontology id and perhaps parent of each type, in the order of the logits.
    settings
        The novelty score and the rates of error.
    """
    temperature, rate = fit_temperature(logits, label), settings.false_unknown_rate
    fitted = fit_novelty(cells.training, temperature, settings.novelty_score)
    probabilities = softmax(logits, temperature)
    expected = expected_novel_detection(cells, [one["name"] for one in labels], settings)
    log.info("confidence: temperature %.3f%s", temperature, _said(expected))
    validation, left_out = cells.validation, cells.left_out
    own = KnownCells(novelty(validation, fitted), validation.label, "validation cells")
    known = left_out or own
    return {
        **fitted,
        "novelty_threshold": novelty_threshold(known.scores, rate),
        "false_unknown_rate": rate,
        "threshold_from": known.which,
        "expected_novel_detection": expected,
        "levels": _levels(probabilities, label, labels, settings.label_error_rate),
        "validation_cells": len(validation.label),
        "held_out_ece_before": _ece(softmax(logits, 1.0), label),
        "held_out_ece": _ece(probabilities, label),
    }


def _said(expected: Sequence[NovelDetection]) -> str:
    """Say which types would be noticed if the model had never seen them."""
    if not expected:
        return ""
    found = ", ".join(f"{one['cell_type']} {one['detected']:.0%}" for one in expected)
    return f"; share of a type's cells called unknown if it were new: {found}"


def _ece(probabilities: np.ndarray, label: np.ndarray) -> float:
    right = probabilities.argmax(axis=1) == label
    bins = reliability(probabilities.max(axis=1), right)
    return expected_calibration_error(bins)


def _levels(
    probabilities: np.ndarray,
    label: np.ndarray,
    labels: Sequence[dict[str, str]],
    error_rate: float,
) -> Levels | None:
    """Return the thresholds of both levels, or None if the labels have no parents."""
    if not all("parent" in entry for entry in labels):
        return None
    return fit_levels(probabilities, label, [entry["parent"] for entry in labels], error_rate)
