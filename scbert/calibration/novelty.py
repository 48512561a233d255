"""Novelty scores: how unlike the training cells a cell is, and what is needed to compute it.

Largest probability: Hendrycks & Gimpel 2017, ICLR. Energy: Liu et al. 2020, NeurIPS, "Energy-based
out-of-distribution detection". Distance to class means with one covariance: Lee et al. 2018,
NeurIPS; the covariance is shrunk as in Ledoit & Wolf 2004. Which one finds held-out cell types best
is measured in docs/results/novelty.md.

Shape letters: N cells, C cell types, K principal components.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp, softmax

from scbert.calibration.fitted import FittedNovelty


@dataclass(frozen=True)
class CellOutputs:
    """Output of a model for cells.

    `logits` has shape (N, C); `positions` (N, K) are the cells' places among the principal
    components of the training cells' tokens, K = 0 for a model that has none.
    """

    logits: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class LabelledOutputs(CellOutputs):
    """Output of a model for labelled cells; `label`, shape (N,), is the column of the true type."""

    label: np.ndarray

    def of(self, rows: np.ndarray) -> Self:
        """Choose cells."""
        return replace(
            self,
            logits=self.logits[rows],
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


def fit_novelty(training: LabelledOutputs, temperature: float, score: str) -> FittedNovelty:
    """Learn what a novelty score must know of the training cells.

    Parameters
    ----------
    training
        Its positions give the class means and the covariance.
    temperature
        That the logits are divided by.
    score
        A name in SCORES.
    """
    fitted: FittedNovelty = {"novelty_score": score, "temperature": temperature}
    if score == "expression_distance":
        means_CK = _class_means(training)
        fitted["type_positions"] = means_CK.tolist()
        fitted["position_cholesky"] = _shared_cholesky(training, means_CK).tolist()
    return fitted


def novelty(cells: CellOutputs, calibration: FittedNovelty) -> np.ndarray:
    """Score how unlike the training cells each cell is; higher is more novel.

    Parameters
    ----------
    cells
        The model's output for them.
    calibration
        Of the model, or the part of it that `fit_novelty` returns.

    Returns
    -------
    Shape (N,), float64; to be compared with calibration["novelty_threshold"].

    Raises
    ------
    ValueError
        If the calibration names a score that this version does not know.
    """
    name = calibration["novelty_score"]
    if name not in SCORES:
        raise ValueError(
            f"the model's novelty score is '{name}', but this version knows "
            f"{', '.join(SCORES)}. Use the version of scbert that made the model, or fine-tune it "
            "again."
        )
    return SCORES[name](cells, calibration)


def _max_probability(cells: CellOutputs, fitted: FittedNovelty) -> np.ndarray:
    """One minus the largest probability."""
    scaled = np.asarray(cells.logits, dtype=np.float64) / fitted["temperature"]
    return 1 - softmax(scaled, axis=1).max(axis=1)


def _energy(cells: CellOutputs, fitted: FittedNovelty) -> np.ndarray:
    """Minus the free energy: low if any logit is high."""
    temperature = fitted["temperature"]
    scaled = np.asarray(cells.logits, dtype=np.float64) / temperature
    return -temperature * logsumexp(scaled, axis=1)


def _expression_distance(cells: CellOutputs, fitted: FittedNovelty) -> np.ndarray:
    """Mahalanobis distance to the nearest class mean, among principal components of the tokens.

    A network trained to tell its types apart keeps little of what a new one would be known by.
    """
    white_NK, white_CK = (
        solve_triangular(np.array(fitted["position_cholesky"]), points.T, lower=True).T
        for points in (cells.positions.astype(float), np.array(fitted["type_positions"]))
    )
    squared = [((white_NK - mean_K) ** 2).sum(axis=1) for mean_K in white_CK]
    return np.sqrt(np.min(squared, axis=0))


SCORES: dict[str, Callable[[CellOutputs, FittedNovelty], np.ndarray]] = {
    "max_probability": _max_probability,
    "energy": _energy,
    "expression_distance": _expression_distance,
}


def _class_means(training: LabelledOutputs) -> np.ndarray:
    """Return the mean position of each type, shape (C, K); every type has some cells."""
    columns = range(training.logits.shape[1])
    own = (training.positions[training.label == column] for column in columns)
    return np.stack([points.mean(axis=0, dtype=np.float64) for points in own])


def _shared_cholesky(training: LabelledOutputs, means_CK: np.ndarray) -> np.ndarray:
    """Return the lower triangle of the covariance of positions around the mean of their class."""
    from sklearn.covariance import LedoitWolf  # noqa: PLC0415  a second, which annotate need not wait

    positions_NK = training.positions.astype(np.float64)
    centred_NK = positions_NK - means_CK[training.label]
    covariance = LedoitWolf(assume_centered=True).fit(centred_NK).covariance_
    # Cells that are all alike within their class have no variance but that of their last digit.
    least = (np.finfo(np.float32).eps * max(1.0, np.abs(positions_NK).max())) ** 2
    return np.linalg.cholesky(covariance + least * np.eye(len(covariance)))
