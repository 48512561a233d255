"""Scores of annotated test cells and their bootstrap intervals, over cells.

Shape suffixes: B resamples, N cells, C cell types, S seeds.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
)

from scbert.config import Evaluate
from scbert.evidence.bootstrap import Interval, interval, resamples
from scbert.evidence.evaluation import SeedScores, TypeScores

METRICS = ("accuracy", "macro_f1", "balanced_accuracy")


def scores(true: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Score one prediction.

    Parameters
    ----------
    true, predicted
        Shape (cells,), the names of cell types.
    classes
        All cell types that may occur.

    Returns
    -------
    The accuracy; the macro F1 and the balanced accuracy, which are the means of F1 and of recall
    over the classes that occur in `true`, as those of `bootstrap_scores` are.

    Raises
    ------
    ValueError
        If there is no cell, the lengths differ or a cell type is not among the classes.
    """
    _encode(true, [predicted], classes)
    in_truth = sorted(set(true))
    return {
        "accuracy": float(accuracy_score(true, predicted)),
        "macro_f1": float(
            f1_score(true, predicted, labels=in_truth, average="macro", zero_division=0)
        ),
        "balanced_accuracy": float(
            recall_score(true, predicted, labels=in_truth, average="macro", zero_division=0)
        ),
    }


def confusion(true: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Count cells by true type (rows) and predicted type (columns), in the order of the classes."""
    _encode(true, [predicted], classes)
    return confusion_matrix(true, predicted, labels=list(classes))


def per_type_scores(
    true: np.ndarray, predictions: Sequence[np.ndarray], classes: Sequence[str]
) -> list[TypeScores]:
    """Precision, recall and F1 of each class: the mean over seeds; a score of 0 / 0 counts as 0."""
    _encode(true, predictions, classes)
    per_seed = [
        precision_recall_fscore_support(true, predicted, labels=list(classes), zero_division=0)[:3]
        for predicted in predictions
    ]
    support = pd.Series(true).value_counts()
    return [
        TypeScores(cell_type, precision, recall, f1, int(support.get(cell_type, 0)))
        for cell_type, (precision, recall, f1) in zip(
            classes, np.mean(per_seed, axis=0).T.tolist(), strict=True
        )
    ]


def bootstrap_scores(
    true: np.ndarray,
    predictions: Sequence[np.ndarray],
    classes: Sequence[str],
    settings: Evaluate,
) -> dict[str, SeedScores]:
    """Score the predictions of several seeds, with an interval for the mean over seeds.

    Every resample draws as many test cells as there are, with replacement and without regard to
    their type; all seeds, and all methods that are called with the same settings, are scored on the
    same resamples. Macro F1 and balanced accuracy always average over one set of types: those that
    occur in `true`. A type that has no cell in a resample keeps its score of all test cells:
    leaving it out would change what is averaged, and a zero would punish a perfect prediction.

    Parameters
    ----------
    true
        Shape (cells,), the true cell types of the test cells.
    predictions
        One array of predicted cell types per seed, each of shape (cells,).
    classes
        All cell types that may occur.
    settings
        Number of resamples, confidence level and seed of the bootstrap.

    Returns
    -------
    For each metric the scores of the seeds on all test cells, and the interval of their mean.
    """
    on_all, resampled = _all_and_resampled(true, predictions, classes, settings)
    found = {}
    for metric in METRICS:
        mean = interval(on_all[metric].mean(), resampled[metric].mean(axis=1), settings)
        found[metric] = SeedScores(mean.mean, mean.low, mean.high, on_all[metric].tolist())
    return found


def paired_difference(
    true: np.ndarray,
    predictions: Sequence[np.ndarray],
    others: Sequence[np.ndarray],
    classes: Sequence[str],
    settings: Evaluate,
) -> dict[str, Interval]:
    """Score of `predictions` minus score of `others`, both on the same resamples of cells.

    The arguments and the scores are those of `bootstrap_scores`; the numbers of seeds may differ.
    If the interval of a difference holds zero, these test cells cannot tell the two apart.
    """
    ours, ours_resampled = _all_and_resampled(true, predictions, classes, settings)
    theirs, theirs_resampled = _all_and_resampled(true, others, classes, settings)
    return {
        metric: interval(
            ours[metric].mean() - theirs[metric].mean(),
            ours_resampled[metric].mean(axis=1) - theirs_resampled[metric].mean(axis=1),
            settings,
        )
        for metric in METRICS
    }


def _all_and_resampled(
    true: np.ndarray,
    predictions: Sequence[np.ndarray],
    classes: Sequence[str],
    settings: Evaluate,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return, by metric, the scores of all test cells (S) and those of the resamples (B, S)."""
    true_N, predicted_SN = _encode(true, predictions, classes)
    pair_SN = true_N * len(classes) + predicted_SN
    every_cell_1N = np.arange(len(true_N))[None]
    all_S1CC = [_confusions(pair_N, every_cell_1N, len(classes)) for pair_N in pair_SN]
    on_all = [_score(all_1CC, all_1CC) for all_1CC in all_S1CC]
    resampled = [
        [
            _score(_confusions(pair_N, cells_BN, len(classes)), all_1CC)
            for pair_N, all_1CC in zip(pair_SN, all_S1CC, strict=True)
        ]
        for cells_BN in resamples(len(true_N), settings, len(classes) ** 2)
    ]
    return (
        {metric: np.concatenate([seed[metric] for seed in on_all]) for metric in METRICS},
        {
            metric: np.concatenate(
                [np.stack([seed[metric] for seed in part], axis=1) for part in resampled]
            )
            for metric in METRICS
        },
    )


def _confusions(pair_N: np.ndarray, cells_BN: np.ndarray, n_classes: int) -> np.ndarray:
    """Count the pairs (true, predicted) of each resample; shape (B, C, C)."""
    n_resamples, n_pairs = len(cells_BN), n_classes**2
    pair_BN = pair_N[cells_BN] + n_pairs * np.arange(n_resamples)[:, None]
    counts = np.bincount(pair_BN.ravel(), minlength=n_resamples * n_pairs)
    return counts.reshape(n_resamples, n_classes, n_classes)


def _score(confusion_BCC: np.ndarray, all_1CC: np.ndarray) -> dict[str, np.ndarray]:
    f1_BC, recall_BC = _f1_and_recall(confusion_BCC)
    f1_1C, recall_1C = _f1_and_recall(all_1CC)
    absent_BC = confusion_BCC.sum(axis=2) == 0
    in_truth_C = all_1CC[0].sum(axis=1) > 0
    hits_B = np.trace(confusion_BCC, axis1=1, axis2=2)
    return {
        "accuracy": hits_B / confusion_BCC.sum(axis=(1, 2)),
        "macro_f1": np.where(absent_BC, f1_1C, f1_BC)[:, in_truth_C].mean(axis=1),
        "balanced_accuracy": np.where(absent_BC, recall_1C, recall_BC)[:, in_truth_C].mean(axis=1),
    }


def _f1_and_recall(confusion_BCC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hits_BC = np.diagonal(confusion_BCC, axis1=1, axis2=2)
    true_BC, predicted_BC = confusion_BCC.sum(axis=2), confusion_BCC.sum(axis=1)
    f1_BC = 2 * hits_BC / np.maximum(true_BC + predicted_BC, 1)
    return f1_BC, hits_BC / np.maximum(true_BC, 1)


def _encode(
    true: np.ndarray, predictions: Sequence[np.ndarray], classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Replace names of cell types by their positions among the classes, checking them."""
    if not len(true) or not predictions:
        raise ValueError(
            f"{len(true)} cells and {len(predictions)} predictions are given, but a score needs at "
            "least one of each. Check the part 'test' of the split and the prediction files."
        )
    columns = pd.Index(classes)
    named = [pd.Index(labels) for labels in (true, *predictions)]
    positions = [columns.get_indexer(labels) for labels in named]
    for labels, position in zip(named, positions, strict=True):
        if len(labels) != len(true):
            raise ValueError(
                f"a prediction has {len(labels)} cells and the truth has {len(true)}, but each "
                "cell needs both. Pass them for the same cells, in the same order."
            )
        if (position < 0).any():
            raise ValueError(
                f"cell type '{labels[position < 0][0]}' is not among the {len(classes)} classes, "
                "so it cannot be counted. Add it to the classes or correct its spelling."
            )
    return positions[0], np.stack(positions[1:])
