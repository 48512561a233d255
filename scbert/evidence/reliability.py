"""Whether a confidence is worth what it says: beside the accuracy of cells of similar confidence.

Reliability diagram and expected calibration error: Guo et al. 2017, ICML, "On calibration of modern
neural networks".
"""

from typing import Any

import numpy as np

N_BINS = 10


def reliability(
    confidence: np.ndarray, correct: np.ndarray, n_bins: int = N_BINS
) -> list[dict[str, Any]]:
    """Compare confidence and accuracy among cells of similar confidence.

    Parameters
    ----------
    confidence
        Shape (cells,), the probability of the predicted type.
    correct
        Shape (cells,), whether the predicted type is the true one.
    n_bins
        Number of bins of equal width; bin b of n holds (b / n, (b + 1) / n], the first also 0.

    Returns
    -------
    For each bin that holds a cell: the mean confidence, the accuracy and the number of cells.

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
    position = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    return [
        {
            "confidence": float(confidence[position == bin_].mean()),
            "accuracy": float(np.mean(correct[position == bin_])),
            "n": int((position == bin_).sum()),
        }
        for bin_ in np.unique(position)
    ]


def expected_calibration_error(bins: list[dict[str, Any]]) -> float:
    """Average the distance of accuracy from confidence over the bins of `reliability`, by cells."""
    n_cells = sum(bin_["n"] for bin_ in bins)
    return float(
        sum(bin_["n"] * abs(bin_["accuracy"] - bin_["confidence"]) for bin_ in bins) / n_cells
    )
