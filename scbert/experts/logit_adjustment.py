"""Logit adjustment of rare types: how much, learned from cells that an expert has not seen.

Where cells of each type can be told apart without error, as few cells among thousands of genes
always can, weights that balance the types change nothing of a linear classifier: rare types are
still called too seldom. So their logits are raised by their rarity (Menon et al. 2021, "Long-tail
learning via logit adjustment", section 4.1).

Shape letters: N cells, C cell types.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from scbert.calibration.confidence import fit_temperature
from scbert.experts.combiner import bounded

PULL = 0.01  # nats, of a tau of 1: a few cells must not raise a type
BALANCE = 0.25  # 0: each cell counts the same, 1: each type; more than this costs common types
LARGEST = 3.0  # tau; 1 takes the types' shares of the training cells away
INVERSE_TEMPERATURES = (1e-4, 1e4)


def rarity(label: np.ndarray) -> np.ndarray:
    """Return log(mean number of cells of a type / its own), shape (C,); 0 if all have as many.

    Parameters
    ----------
    label
        The type of each training cell, 0 to C - 1, each there at least once.
    """
    number_C = np.bincount(label)
    return np.log(number_C.mean() / number_C)


def fit_logit_adjustment(logits: np.ndarray, label: np.ndarray, rarity_C: np.ndarray) -> float:
    """Find by how much logits rise with rarity, so that held-out cells are most likely.

    It is tau x temperature of Menon et al. 2021, for logits of any scale: `logits + found *
    rarity_C`. A cell of a type with n counts n^-0.25; as in `fit_temperature`, one cell more is
    taken to have been seen with another label. The loss is convex, so there is one answer.

    Parameters
    ----------
    logits
        Logits of the expert for cells that it has not learned from, shape (N, C).
    label
        Shape (N,), the column of each cell's true type.
    rarity_C
        Of `rarity`.
    """
    if not rarity_C.any():
        return 0.0
    logits = bounded(logits)
    temperature = fit_temperature(logits, label)
    logits, cells, n_types = logits / temperature, np.arange(len(label)), logits.shape[1]
    weight_N = np.bincount(label)[label] ** -BALANCE
    weight_N /= weight_N.sum()
    others = 1 / (len(label) + 2)
    target_NC = np.full(logits.shape, others / (n_types - 1))
    target_NC[cells, label] = 1 - others

    def loss(given: np.ndarray) -> tuple[float, np.ndarray]:
        inverse, tau = given
        log_p_NC = log_softmax(inverse * logits + tau * rarity_C, axis=1)
        value = -(weight_N * (target_NC * log_p_NC).sum(axis=1)).sum() + PULL * tau**2
        over_NC = weight_N[:, np.newaxis] * (np.exp(log_p_NC) - target_NC)
        by_tau = (over_NC @ rarity_C).sum() + 2 * PULL * tau
        return float(value), np.array([(over_NC * logits).sum(), by_tau])

    found = minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[INVERSE_TEMPERATURES, (0.0, LARGEST)],
    )
    inverse, tau = found.x
    return float(tau / inverse * temperature)
