"""How unlike the training cells a cell is: novelty scores, and what is needed to compute them.

Largest probability: Hendrycks & Gimpel 2017, ICLR. Energy: Liu et al. 2020, NeurIPS, "Energy-based
out-of-distribution detection". Distance to class means with one covariance: Lee et al. 2018,
NeurIPS; the covariance is shrunk as in Ledoit & Wolf 2004. Which one finds held-out cell types best
is measured by benchmarks/novelty.py and benchmarks/novelty_finetuned.py.

Shape letters: N cells, C cell types, D width of the cell vector, K principal components.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp, softmax
from sklearn.covariance import LedoitWolf

COMBINED = ("energy", "expression_distance")


@dataclass(frozen=True)
class CellOutputs:
    """What a model says of cells.

    `logits` has shape (N, C) and `vectors` (N, D); `positions` (N, K) are the cells' places among
    the principal components of the training cells' tokens, K = 0 for a model that has none.
    """

    logits: np.ndarray
    vectors: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class LabelledOutputs(CellOutputs):
    """What a model says of labelled cells; `label`, shape (N,), is the column of the true type."""

    label: np.ndarray

    def of(self, rows: np.ndarray) -> Self:
        """Choose cells."""
        return replace(
            self,
            logits=self.logits[rows],
            vectors=self.vectors[rows],
            positions=self.positions[rows],
            label=self.label[rows],
        )

    def without_column(self, column: int) -> Self:
        """Forget that there is a type; its cells get the label -1."""
        label = np.where(self.label == column, -1, self.label - (self.label > column))
        return replace(self, logits=np.delete(self.logits, column, axis=1), label=label)

    def without_type(self, column: int) -> Self:
        """Forget one type: its column of the logits, and its cells."""
        found = self.without_column(column)
        return found.of(found.label >= 0)


def fit_novelty(
    training: LabelledOutputs, validation: LabelledOutputs, temperature: float, score: str
) -> dict[str, Any]:
    """Learn what a novelty score must know of the training cells.

    Parameters
    ----------
    training
        Its vectors or positions give the class means and the covariance.
    validation
        Its scores give the units of the combined score: training cells look too familiar.
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
        fitted["class_means"] = _class_means(training, training.vectors).tolist()
    if "distance" in parts:
        fitted["covariance_cholesky"] = _shared_cholesky(training, training.vectors).tolist()
    if "expression_distance" in parts:
        fitted["type_positions"] = _class_means(training, training.positions).tolist()
        fitted["position_cholesky"] = _shared_cholesky(training, training.positions).tolist()
    if score == "combined":
        fitted["units"] = {part: _unit_of(SCORES[part](validation, fitted)) for part in parts}
    return fitted


def novelty(cells: CellOutputs, calibration: dict[str, Any]) -> np.ndarray:
    """Score how unlike the training cells each cell is; higher is more novel.

    Parameters
    ----------
    cells
        What the model says of them.
    calibration
        Of the model: it names the score and holds what that needs.

    Returns
    -------
    Shape (N,), float64; to be compared with calibration["novelty_threshold"].

    Raises
    ------
    ValueError
        If the calibration names a score that this version does not know.
    """
    name = calibration["novelty_score"]
    if name == "combined" and "units" in calibration:
        return np.sum(
            [
                (SCORES[part](cells, calibration) - unit["mean"]) / unit["std"]
                for part, unit in calibration["units"].items()
            ],
            axis=0,
        )
    if name not in SCORES:
        raise ValueError(
            f"the model's novelty score is '{name}', made in a way that this version does not "
            f"know: it knows {', '.join(SCORES)} and combined, of {' and '.join(COMBINED)}. Use "
            "the version of scbert that made the model, or train it again."
        )
    return SCORES[name](cells, calibration)


def _max_probability(cells: CellOutputs, fitted: dict) -> np.ndarray:
    """One minus the largest probability."""
    scaled = np.asarray(cells.logits, dtype=np.float64) / fitted["temperature"]
    return 1 - softmax(scaled, axis=1).max(axis=1)


def _energy(cells: CellOutputs, fitted: dict) -> np.ndarray:
    """Minus the free energy: low if any logit is high."""
    temperature = fitted["temperature"]
    scaled = np.asarray(cells.logits, dtype=np.float64) / temperature
    return -temperature * logsumexp(scaled, axis=1)


def _distance(cells: CellOutputs, fitted: dict) -> np.ndarray:
    """Mahalanobis distance of the cell vector to the nearest class mean."""
    return _mahalanobis(cells.vectors, fitted["class_means"], fitted["covariance_cholesky"])


def _expression_distance(cells: CellOutputs, fitted: dict) -> np.ndarray:
    """Mahalanobis distance to the nearest class mean, among principal components of the tokens.

    A network trained to tell its types apart keeps little of what a new one would be known by.
    """
    return _mahalanobis(cells.positions, fitted["type_positions"], fitted["position_cholesky"])


def _cosine(cells: CellOutputs, fitted: dict) -> np.ndarray:
    """One minus the cosine to the nearest class mean; a vector of zeros is at 1."""
    unit_ND, unit_CD = (_unit(points) for points in (cells.vectors, fitted["class_means"]))
    return 1 - (unit_ND @ unit_CD.T).max(axis=1)


SCORES: dict[str, Callable[[CellOutputs, dict], np.ndarray]] = {
    "max_probability": _max_probability,
    "energy": _energy,
    "distance": _distance,
    "cosine": _cosine,
    "expression_distance": _expression_distance,
}


def _mahalanobis(points: np.ndarray, means: list, cholesky: list) -> np.ndarray:
    """Return the distance to the nearest mean in units of the covariance, shape (N,)."""
    white_ND, white_CD = (
        solve_triangular(np.array(cholesky), np.asarray(one, dtype=np.float64).T, lower=True).T
        for one in (points, means)
    )
    squared = [((white_ND - mean) ** 2).sum(axis=1) for mean in white_CD]
    return np.sqrt(np.min(squared, axis=0))


def _unit(points: np.ndarray | list[list[float]]) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return np.divide(points, length, out=np.zeros_like(points), where=length > 0)


def _class_means(training: LabelledOutputs, points: np.ndarray) -> np.ndarray:
    """Return the mean of the points of each type, shape (C, width); every type has some."""
    columns = range(training.logits.shape[1])
    return np.stack([points[training.label == c].mean(axis=0, dtype=np.float64) for c in columns])


def _shared_cholesky(training: LabelledOutputs, points: np.ndarray) -> np.ndarray:
    """Return the lower triangle of the covariance of points around the mean of their class."""
    points = np.asarray(points, dtype=np.float64)
    centred = points - _class_means(training, points)[training.label]
    covariance = LedoitWolf(assume_centered=True).fit(centred).covariance_
    # Points that are all alike within their class have no variance but that of their last digit.
    least = (np.finfo(np.float32).eps * max(1.0, np.abs(points).max())) ** 2
    return np.linalg.cholesky(covariance + least * np.eye(len(covariance)))


def _unit_of(scores: np.ndarray) -> dict[str, float]:
    """Return mean and standard deviation of scores; 1 if they are all the same."""
    return {"mean": float(scores.mean()), "std": float(scores.std()) or 1.0}
