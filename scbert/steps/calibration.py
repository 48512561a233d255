"""Part of step finetune: what makes a model's confidence mean something, from held-out cells."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from scbert.config import Annotate
from scbert.evidence.confidence import fit_temperature, softmax
from scbert.evidence.held_out_types import Positions, expected_novel_detection
from scbert.evidence.hierarchy import fit_levels
from scbert.evidence.novelty import LabelledOutputs, fit_novelty, novelty
from scbert.evidence.refusal import novelty_threshold
from scbert.evidence.reliability import expected_calibration_error, reliability

log = logging.getLogger(__name__)


def calibrate(
    logits: np.ndarray,
    label: np.ndarray,
    training: LabelledOutputs,
    validation: LabelledOutputs,
    labels: Sequence[dict[str, str]],
    settings: Annotate,
    positions_without: Positions,
) -> dict[str, Any]:
    """Fit temperature, novelty score and thresholds; none of them sees a test cell.

    Parameters
    ----------
    logits, label
        What the experts together say of labelled cells that they have not learned from, and the
        types: they fit the temperature and the thresholds of the levels.
    training, validation
        What the model says of the training and of the validation cells; where these lie among the
        components of the training cells fits the threshold of the novelty score.
    labels
        Name, ontology id and perhaps parent of each type, in the order of the logits.
    settings
        The novelty score and the rates of error.
    positions_without
        See `expected_novel_detection`.

    Returns
    -------
    The content of calibration.json.
    """
    temperature = fit_temperature(logits, label)
    names, score = [label["name"] for label in labels], settings.novelty_score
    rate = settings.false_unknown_rate
    fitted = fit_novelty(training, temperature, score)
    scores = novelty(validation, fitted)
    probabilities = softmax(logits, temperature)
    expected = expected_novel_detection(training, validation, names, score, rate, positions_without)
    log.info("temperature %.3f; if a type were unknown: %s", temperature, expected)
    return {
        **fitted,
        "novelty_threshold": novelty_threshold(scores, rate),
        "false_unknown_rate": rate,
        "expected_novel_detection": expected,
        "levels": _levels(probabilities, label, labels, settings.label_error_rate),
        "validation_cells": len(validation.label),
        "held_out_ece_before": _ece(softmax(logits, 1.0), label),
        "held_out_ece": _ece(probabilities, label),
    }


def _ece(probabilities: np.ndarray, label: np.ndarray) -> float:
    right = probabilities.argmax(axis=1) == label
    bins = reliability(probabilities.max(axis=1), right)
    return expected_calibration_error(bins)


def _levels(
    probabilities: np.ndarray,
    label: np.ndarray,
    labels: Sequence[dict[str, str]],
    error_rate: float,
) -> dict[str, float] | None:
    """Return the thresholds of both levels, or None if the labels have no parents."""
    if not all("parent" in entry for entry in labels):
        return None
    return fit_levels(probabilities, label, [entry["parent"] for entry in labels], error_rate)
