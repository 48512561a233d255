"""Combination of the experts: a weighted mean of their calibrated log-probabilities.

Weights and temperatures are fitted on each expert's logits of cells that it has not learned from.
Stacking: Wolpert 1992; non-negative weights: Breiman 1996, "Stacked regressions". A logarithmic
opinion pool: Genest & Zidek 1986.

Shape letters: N cells, C cell types, E experts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from scbert.calibration.confidence import fit_temperature

PULL = 0.03  # nats, of all weight on one expert; few cells must not decide between equals
LEAST_WEIGHT = 0.01  # less is 0: an expert is not computed for that
LEAST_LOGIT = -40.0  # below the largest; a type that an expert has not seen is no proof


@dataclass(frozen=True)
class Share:
    """What an expert has to say: its weight, at least 0; all add up to 1; and its temperature."""

    weight: float
    temperature: float


def combine(logits: Mapping[str, np.ndarray], shares: Mapping[str, Share]) -> np.ndarray:
    """Return the weighted mean of log-probabilities, float64, shape (N, C).

    A single expert's logits are divided by its temperature and not normalised: their size says how
    far a cell is from all types.

    Parameters
    ----------
    logits
        Of each expert whose weight is above 0; others are not looked at.
    """
    heard = {name: share for name, share in shares.items() if share.weight}
    if len(heard) == 1:
        ((name, share),) = heard.items()
        return bounded(logits[name]) / share.temperature
    return np.sum(
        [
            share.weight * calibrated(logits[name], share.temperature)
            for name, share in heard.items()
        ],
        axis=0,
    )


def calibrated(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return log-probabilities, shape (N, C)."""
    return log_softmax(bounded(logits) / temperature, axis=1)


def bounded(logits: np.ndarray) -> np.ndarray:
    """Return logits, float64, none further below a cell's largest than is taken for a proof."""
    logits = np.asarray(logits, dtype=np.float64)
    return np.maximum(logits, logits.max(axis=1, keepdims=True) + LEAST_LOGIT)


def fit_shares(logits: Mapping[str, np.ndarray], label: np.ndarray) -> dict[str, Share]:
    """Find the weights that make held-out cells most likely, pulled towards equal ones.

    A type counts by the root of its number of cells: between macro F1, where all weigh the same and
    a handful of rare cells would decide, and accuracy.

    Parameters
    ----------
    logits
        Logits of each expert for cells that it has not learned from, shape (N, C).
    label
        Shape (N,), the column of each cell's true type.

    Raises
    ------
    ValueError
        If there is no cell, or a logit is not finite.
    """
    temperatures = {name: fit_temperature(bounded(of), label) for name, of in logits.items()}
    if len(logits) == 1:
        return {name: Share(1.0, value) for name, value in temperatures.items()}
    log_p_ENC = np.stack([calibrated(of, temperatures[name]) for name, of in logits.items()])
    number_C = np.bincount(label, minlength=log_p_ENC.shape[2])
    weight_N = 1 / np.sqrt(number_C[label])
    weight_E = _least_loss(log_p_ENC, label, weight_N / weight_N.sum())
    weight_E = np.where(weight_E < LEAST_WEIGHT, 0, weight_E)
    shares = (weight_E / weight_E.sum()).tolist()
    return {
        name: Share(weight, temperatures[name]) for name, weight in zip(logits, shares, strict=True)
    }


def _least_loss(log_p_ENC: np.ndarray, label: np.ndarray, weight_N: np.ndarray) -> np.ndarray:
    """Return the weights of the experts, shape (E,), that add up to 1."""
    from scipy.optimize import minimize  # noqa: PLC0415  a third of a second, not for annotate

    n_experts, cells = len(log_p_ENC), np.arange(len(label))
    label_EN = log_p_ENC[:, cells, label]

    def loss(weight_E: np.ndarray) -> tuple[float, np.ndarray]:
        mixed_NC = log_softmax(np.tensordot(weight_E, log_p_ENC, axes=1), axis=1)
        expected_EN = (np.exp(mixed_NC) * log_p_ENC).sum(axis=2)
        apart_E = weight_E - 1 / n_experts
        value = -(weight_N * mixed_NC[cells, label]).sum() + PULL * (apart_E**2).sum()
        gradient_E = ((expected_EN - label_EN) * weight_N).sum(axis=1) + 2 * PULL * apart_E
        return float(value), gradient_E

    found = minimize(
        loss,
        np.full(n_experts, 1 / n_experts),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * n_experts,
        constraints={"type": "eq", "fun": lambda weight_E: weight_E.sum() - 1},
    )
    return np.clip(found.x, 0, 1)


def agreement(logits: Mapping[str, np.ndarray], called: np.ndarray) -> np.ndarray:
    """Return the share of the experts that give each cell the type it is called, shape (N,)."""
    return np.mean([of.argmax(axis=1) == called for of in logits.values()], axis=0)
