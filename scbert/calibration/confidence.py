"""Confidence that means what it says: the temperature of logits, and how reliable it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax
from scipy.special import softmax as scipy_softmax

LOG_TEMPERATURE_BOUNDS = (np.log(1e-4), np.log(1e4))
N_BINS = 10


@dataclass(frozen=True)
class ConfidenceBin:
    """Cells of similar confidence: the mean of it, the share of right labels, how many cells."""

    confidence: float
    accuracy: float
    n: int


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Turn logits into probabilities, flatter the higher the temperature.

    Parameters
    ----------
    logits
        Shape (cells, cell types).
    temperature
        Above 0; 1 leaves the logits as they are.

    Returns
    -------
    Shape (cells, cell types); rows sum to 1.
    """
    return scipy_softmax(np.asarray(logits) / _positive(temperature), axis=1)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature that makes the validation cells most likely.

    As if one cell more had been seen with another label: of n cells, each counts 1 / (n + 2) for
    the other types together. Else, if all validation cells are right, the likelihood would rise as
    the temperature falls, without end, and all confidences would become 1.

    Parameters
    ----------
    logits
        Shape (cells, cell types), of validation cells: not of cells that trained the model.
    labels
        Shape (cells,), the column of each cell's true type.

    Returns
    -------
    The temperature; above 1 the model was too confident, below 1 not enough.

    Raises
    ------
    ValueError
        If there is no cell, a logit is not finite or a label is not a column.
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415  a third of a second, not for annotate

    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if len(labels) == 0 or len(labels) != len(logits):
        raise ValueError(
            f"{len(logits)} rows of logits and {len(labels)} labels are given, but calibration "
            "needs both of at least one validation cell. Check the part 'validation' of the split."
        )
    if not np.isfinite(logits).all():
        raise ValueError(
            "logits hold NaN or infinity, which no temperature can repair. Look at the training "
            "loss and lower the learning rate."
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}, but the logits have "
            f"{logits.shape[1]} columns. Number the cell types as the model does."
        )
    others = 1 / (len(labels) + 2)

    def loss(log_temperature: float) -> float:
        return _cross_entropy(logits / np.exp(log_temperature), labels, others)

    found = minimize_scalar(
        loss, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def _cross_entropy(logits: np.ndarray, labels: np.ndarray, others: float) -> float:
    """Return the mean over cells; `others` is the share of each that its other types have."""
    log_p = log_softmax(logits, axis=1)
    found = log_p[np.arange(len(labels)), labels]
    if log_p.shape[1] > 1:
        rest = (log_p.sum(axis=1) - found) / (log_p.shape[1] - 1)
        found = (1 - others) * found + others * rest
    return -float(found.mean())


def change_temperature(probabilities: np.ndarray, old: float, new: float) -> np.ndarray:
    """Return the probabilities that the same logits give at another temperature.

    Probabilities fix the logits up to a constant per cell, which softmax ignores, so nothing else
    is needed. A probability that was rounded to 0 stays 0.

    Parameters
    ----------
    probabilities
        Shape (cells, cell types), made at the temperature `old`.
    old, new
        Temperatures; `new` = 1 undoes a calibration.

    Returns
    -------
    Shape (cells, cell types), float64; rows sum to 1.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    log_probabilities = np.full(probabilities.shape, -np.inf)
    np.log(probabilities, out=log_probabilities, where=probabilities > 0)
    return scipy_softmax(log_probabilities * (_positive(old) / _positive(new)), axis=1)


def _positive(temperature: float) -> float:
    if not temperature > 0:
        raise ValueError(
            f"the temperature is {temperature}, but logits are divided by it, so it must be above "
            "0. Use the output of fit_temperature, or 1."
        )
    return temperature


def reliability(confidence: np.ndarray, correct: np.ndarray) -> list[ConfidenceBin]:
    """Compare confidence and accuracy among cells of similar confidence.

    Bins have equal width; bin b of n holds (b / n, (b + 1) / n], the first also 0.

    Parameters
    ----------
    confidence
        Shape (cells,), the probability of the predicted type.
    correct
        Shape (cells,), whether the predicted type is the true one.

    Returns
    -------
    The bins that hold a cell.

    Raises
    ------
    ValueError
        If a confidence is not between 0 and 1.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    if not ((confidence >= 0) & (confidence <= 1 + 1e-6)).all():  # float32 rounds 1 up by 1e-7
        raise ValueError(
            f"confidence runs from {confidence.min()} to {confidence.max()}, but a probability "
            "lies between 0 and 1. Pass the largest probability of each cell, not its logit."
        )
    position = np.clip(np.ceil(confidence * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    return [
        ConfidenceBin(
            confidence=float(confidence[position == bin_].mean()),
            accuracy=float(np.mean(correct[position == bin_])),
            n=int((position == bin_).sum()),
        )
        for bin_ in np.unique(position)
    ]


def expected_calibration_error(bins: Sequence[ConfidenceBin]) -> float:
    """Average the distance of accuracy from confidence over the bins of `reliability`, by cells."""
    n_cells = sum(one.n for one in bins)
    return float(sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / n_cells)
