"""Scores by chance: of answers beside shuffled labels. Labels that nothing tells score no more."""

import numpy as np

SHUFFLES = 1000


def by_chance(answer: np.ndarray, label: np.ndarray, n_types: int) -> dict[str, float]:
    """Return the macro F1 of answers beside labels that are shuffled: the mean, and the highest.

    Parameters
    ----------
    answer, label
        Number of the type of each cell, shape (cells,).
    """
    rng = np.random.default_rng(0)
    found = [macro_f1(answer, rng.permutation(label), n_types) for _ in range(SHUFFLES)]
    return {"macro_f1": float(np.mean(found)), "high": float(max(found))}


def macro_f1(answer: np.ndarray, label: np.ndarray, n_types: int) -> float:
    """Return the mean F1 of the types that have a cell, as scikit-learn does, in a tenth of it."""
    right = np.bincount(label[answer == label], minlength=n_types)
    cells = np.bincount(label, minlength=n_types)
    f1 = 2 * right / np.maximum(cells + np.bincount(answer, minlength=n_types), 1)
    return float(f1[cells > 0].mean())
