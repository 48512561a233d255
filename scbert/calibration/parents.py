"""Two levels of labels: cell types and their parents, such as T cell for its subsets.

The probability of a parent is the sum of its children's, so both levels always agree. Falling back
to the parent where the child is unsure: selective classification (Geifman & El-Yaniv 2017, NeurIPS)
along a hierarchy (Deng et al. 2012, CVPR, "Hedging your bets").
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scbert.calibration.fitted import Levels

UNRESOLVED = "unknown"  # neither level is sure; CELLxGENE's word
NEVER = 2.0  # a threshold that no probability reaches


def parent_probabilities(
    probabilities: np.ndarray, parents: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """Add the probabilities of the children up.

    Parameters
    ----------
    probabilities
        Shape (cells, cell types).
    parents
        The parent of each cell type, in order.

    Returns
    -------
    The parents' names, sorted, and their probabilities, shape (cells, parents).
    """
    names, position = np.unique(parents, return_inverse=True)
    belongs = np.eye(len(names))[position]
    return names.tolist(), np.asarray(probabilities, dtype=np.float64) @ belongs


def confidence_threshold(confidence: np.ndarray, correct: np.ndarray, error_rate: float) -> float:
    """Choose the lowest confidence from which on labels may be trusted.

    Parameters
    ----------
    confidence, correct
        Shape (cells,), of validation cells.
    error_rate
        Largest share of wrong labels among the cells at or above the threshold.

    Returns
    -------
    The confidence of a validation cell, or 2, which no cell reaches, if even the surest labels are
    wrong more often.

    Raises
    ------
    ValueError
        If there is no validation cell.
    """
    if not len(confidence):
        raise ValueError(
            "no validation cell is given, so the threshold of confidence cannot be set. Check "
            "the part 'validation' of the split."
        )
    order = np.argsort(-confidence, kind="stable")
    wrong = (~correct[order]).cumsum() / np.arange(1, len(order) + 1)
    surest = confidence[order]
    last_of_equals = np.append(surest[1:] != surest[:-1], True)  # equal cells are accepted together
    allowed = np.flatnonzero((wrong <= error_rate) & last_of_equals)
    return float(surest[allowed[-1]]) if len(allowed) else NEVER


def fit_levels(
    probabilities: np.ndarray, label: np.ndarray, parents: Sequence[str], error_rate: float
) -> Levels:
    """Choose the threshold of each level on validation cells.

    Parameters
    ----------
    probabilities
        Shape (cells, cell types), calibrated.
    label
        Shape (cells,), the column of the true type.
    parents
        The parent of each cell type, in order.
    error_rate
        Largest share of wrong labels that each level may give.
    """
    names, of_parents = parent_probabilities(probabilities, parents)
    parent_of = np.array([names.index(parent) for parent in parents])
    child, parent = probabilities.argmax(axis=1), of_parents.argmax(axis=1)
    agree = parent_of[child] == parent  # else the child's label is never given
    child_threshold = NEVER
    if agree.any():
        sure, right = probabilities.max(axis=1)[agree], (child == label)[agree]
        child_threshold = confidence_threshold(sure, right, error_rate)
    return {
        "error_rate": error_rate,
        "child_threshold": child_threshold,
        "parent_threshold": confidence_threshold(
            of_parents.max(axis=1), parent == parent_of[label], error_rate
        ),
    }


def level_calls(
    probabilities: np.ndarray, labels: Sequence[dict[str, str]], levels: Levels | None
) -> dict[str, np.ndarray | pd.Categorical]:
    """Label cells on the parents' level and on the finest level that is sure.

    Parameters
    ----------
    probabilities
        Shape (cells, cell types), calibrated.
    labels
        A model's labels, with "name" and perhaps "parent".
    levels
        The thresholds of the model's calibration; None where the labels have no parents.

    Returns
    -------
    Columns of obs, empty where the labels have no parents: scbert_parent_label, the parent of
    highest probability; scbert_parent_confidence; and scbert_best_label: the most likely type if
    its probability reaches the child's threshold and its parent is scbert_parent_label, else
    scbert_parent_label if its probability reaches the parent's threshold, else "unknown".
    """
    if levels is None:
        return {}
    children = [label["name"] for label in labels]
    parents = [label["parent"] for label in labels]
    names, of_parents = parent_probabilities(probabilities, parents)
    child, parent = probabilities.argmax(axis=1), of_parents.argmax(axis=1)
    confidence = of_parents.max(axis=1)
    parent_label = np.array(names, dtype=object)[parent]
    agree = np.array(parents, dtype=object)[child] == parent_label
    child_sure = (probabilities.max(axis=1) >= levels["child_threshold"]) & agree
    best = np.where(confidence >= levels["parent_threshold"], parent_label, UNRESOLVED)
    best = np.where(child_sure, np.array(children, dtype=object)[child], best)
    categories = list(dict.fromkeys([*children, *names, UNRESOLVED]))
    return {
        "scbert_parent_label": pd.Categorical(parent_label, categories=names),
        "scbert_parent_confidence": confidence,
        "scbert_best_label": pd.Categorical(best, categories=categories),
    }
