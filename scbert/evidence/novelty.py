"""How unlike the training cells a cell is: novelty scores, and what is needed to compute them.

Largest probability: Hendrycks & Gimpel 2017, ICLR. Energy: Liu et al. 2020, NeurIPS, "Energy-based
out-of-distribution detection". Distance to class means with one covariance: Lee et al. 2018,
NeurIPS; the covariance is shrunk as in Ledoit & Wolf 2004. Which one finds held-out cell types best
is measured by benchmarks/novelty.py.

Shape letters: N cells, C cell types, D width of the cell vector.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp, softmax
from sklearn.covariance import LedoitWolf

COMBINED = ("max_probability", "energy", "distance")
KEPT_SCORES = 1000  # of validation cells, evenly spaced by rank: a rank is known to 0.1 %


@dataclass(frozen=True)
class LabelledOutputs:
    """What a model says of labelled cells.

    `logits` has shape (N, C), `vectors` (N, D) and `label` (N,), the column of the true type.
    """

    logits: np.ndarray
    vectors: np.ndarray
    label: np.ndarray

    def without_type(self, column: int) -> "LabelledOutputs":
        """Forget one type: its column of the logits, and its cells."""
        rows = self.label != column
        label = self.label[rows]
        logits = np.delete(self.logits[rows], column, axis=1)
        return LabelledOutputs(logits, self.vectors[rows], label - (label > column))


def fit_novelty(
    training: LabelledOutputs, validation: LabelledOutputs, temperature: float, score: str
) -> dict[str, Any]:
    """Learn what a novelty score must know of the training cells.

    Parameters
    ----------
    training
        Its vectors give the class means and the covariance.
    validation
        Its scores give the ranks of the combined score: training cells look too familiar.
    temperature
        That the logits are divided by.
    score
        A name in SCORES, or combined.

    Returns
    -------
    A dict that JSON can hold, to be passed to `novelty` as part of a calibration.
    """
    fitted: dict[str, Any] = {"novelty_score": score, "temperature": temperature}
    parts = COMBINED if score == "combined" else (score,)
    if not {"distance", "cosine"}.isdisjoint(parts):
        fitted["class_means"] = _class_means(training).tolist()
    if "distance" in parts:
        fitted["covariance_cholesky"] = _shared_cholesky(training).tolist()
    if score == "combined":
        fitted["validation_scores"] = {
            part: _evenly(SCORES[part](validation.logits, validation.vectors, fitted))
            for part in parts
        }
    return fitted


def novelty(logits: np.ndarray, vectors: np.ndarray, calibration: dict[str, Any]) -> np.ndarray:
    """Score how unlike the training cells each cell is; higher is more novel.

    Parameters
    ----------
    logits
        Shape (N, C).
    vectors
        Shape (N, D), the cell vectors of the same model.
    calibration
        Of the model: it names the score and holds what that needs.

    Returns
    -------
    Shape (N,), float64; to be compared with calibration["novelty_threshold"].

    Raises
    ------
    ValueError
        If the calibration names a score that does not exist.
    """
    name = calibration["novelty_score"]
    if name == "combined":
        ranks = [
            np.searchsorted(known, SCORES[part](logits, vectors, calibration)) / len(known)
            for part, known in calibration["validation_scores"].items()
        ]
        return np.mean(ranks, axis=0)
    if name not in SCORES:
        raise ValueError(
            f"the model's novelty score is '{name}', but this version knows {', '.join(SCORES)} "
            "and combined. Use the version of scbert that made the model."
        )
    return SCORES[name](logits, vectors, calibration)


def _max_probability(logits: np.ndarray, vectors: np.ndarray, fitted: dict) -> np.ndarray:
    """One minus the largest probability."""
    del vectors
    scaled = np.asarray(logits, dtype=np.float64) / fitted["temperature"]
    return 1 - softmax(scaled, axis=1).max(axis=1)


def _energy(logits: np.ndarray, vectors: np.ndarray, fitted: dict) -> np.ndarray:
    """Minus the free energy: low if any logit is high."""
    del vectors
    temperature = fitted["temperature"]
    return -temperature * logsumexp(np.asarray(logits, dtype=np.float64) / temperature, axis=1)


def _distance(logits: np.ndarray, vectors: np.ndarray, fitted: dict) -> np.ndarray:
    """Mahalanobis distance to the nearest class mean."""
    del logits
    cholesky = np.array(fitted["covariance_cholesky"])
    white_ND, white_CD = (
        solve_triangular(cholesky, np.asarray(points, dtype=np.float64).T, lower=True).T
        for points in (vectors, fitted["class_means"])
    )
    squared = [((white_ND - mean) ** 2).sum(axis=1) for mean in white_CD]
    return np.sqrt(np.min(squared, axis=0))


def _cosine(logits: np.ndarray, vectors: np.ndarray, fitted: dict) -> np.ndarray:
    """One minus the cosine to the nearest class mean; a vector of zeros is at 1."""
    del logits
    unit_ND, unit_CD = (_unit(points) for points in (vectors, fitted["class_means"]))
    return 1 - (unit_ND @ unit_CD.T).max(axis=1)


SCORES: dict[str, Callable[[np.ndarray, np.ndarray, dict], np.ndarray]] = {
    "max_probability": _max_probability,
    "energy": _energy,
    "distance": _distance,
    "cosine": _cosine,
}


def _unit(points: np.ndarray | list[list[float]]) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return np.divide(points, length, out=np.zeros_like(points), where=length > 0)


def _class_means(training: LabelledOutputs) -> np.ndarray:
    """Return shape (C, D); every type has training cells."""
    columns = range(training.logits.shape[1])
    return np.stack(
        [training.vectors[training.label == c].mean(axis=0, dtype=np.float64) for c in columns]
    )


def _shared_cholesky(training: LabelledOutputs) -> np.ndarray:
    """Return the lower triangle of the covariance of vectors around the mean of their class."""
    vectors_ND = np.asarray(training.vectors, dtype=np.float64)
    centred_ND = vectors_ND - _class_means(training)[training.label]
    covariance = LedoitWolf(assume_centered=True).fit(centred_ND).covariance_
    # Vectors that are all alike within their class have no variance but that of their last digit.
    least = (np.finfo(np.float32).eps * max(1.0, np.abs(vectors_ND).max())) ** 2
    return np.linalg.cholesky(covariance + least * np.eye(len(covariance)))


def _evenly(scores: np.ndarray) -> list[float]:
    """Return at most KEPT_SCORES of the scores, ascending and evenly spaced by rank."""
    ascending = np.sort(scores)
    kept = np.linspace(0, len(ascending) - 1, min(len(ascending), KEPT_SCORES))
    return ascending[kept.round().astype(int)].tolist()
