"""Predictions of the test cells -> scores, reliability, and how novel cells were met."""

from pathlib import Path

import numpy as np

from scbert.calibration import confidence
from scbert.calibration.confidence import expected_calibration_error, reliability
from scbert.calibration.novelty_threshold import (
    coverage_accuracy,
    novelty_auroc,
    unknown_scores,
)
from scbert.config import Evaluate
from scbert.evidence import metrics
from scbert.evidence.evaluation import (
    Curve,
    Evaluation,
    ModelScores,
    Order,
    Reliability,
    Unknown,
)
from scbert.evidence.predictions import (
    Prediction,
    all_classes,
    describe_parts,
    log_scores,
    read_predictions,
    read_split,
)

ORIGINAL_THRESHOLD = 0.5  # of the uncalibrated probability; predict.py of the original


def evaluate_scores(predictions: list[Path], split: Path, settings: Evaluate) -> Evaluation:
    """Return what `evaluate` writes, but for the map, which needs UMAP."""
    table = read_split(split)
    test = table.query("part == 'test'")
    true, seeds = test["cell_type"].to_numpy(dtype=str), read_predictions(predictions, test.index)
    return Evaluation(split.stem, describe_parts(table), score_seeds(seeds, true, settings))


def score_seeds(seeds: list[Prediction], true: np.ndarray, settings: Evaluate) -> ModelScores:
    """Score the predictions of each seed's model for cells whose types, (cells,), are known."""
    classes, predicted = all_classes(seeds, true), [seed.predicted for seed in seeds]
    found = metrics.bootstrap_scores(true, predicted, classes, settings)
    tables = [metrics.confusion(true, labels, classes) for labels in predicted]
    log_scores("scBERT", found, f"{len(true)} test cells, {len(seeds)} seed(s).")
    return ModelScores(
        classes=classes,
        n_test=len(true),
        seeds=[seed.seed for seed in seeds],
        confidence_level=settings.confidence_level,
        scores=found,
        confusion=np.sum(tables, axis=0).tolist(),
        per_type=metrics.per_type_scores(true, predicted, classes),
        reliability=_reliability(seeds, true),
        unknown=_unknown(seeds, true),
    )


def _reliability(seeds: list[Prediction], true: np.ndarray) -> Reliability:
    """Reliability before and after calibration, over the cells of all seeds together."""
    correct = np.concatenate([seed.predicted == true for seed in seeds])
    before = [
        confidence.change_temperature(seed.probabilities, seed.temperature, 1.0).max(axis=1)
        for seed in seeds
    ]
    after = [seed.obs["scbert_confidence"].to_numpy() for seed in seeds]
    return Reliability(
        temperature=[seed.temperature for seed in seeds],
        before=_curve(before, correct),
        after=_curve(after, correct),
    )


def _curve(confidences: list[np.ndarray], correct: np.ndarray) -> Curve:
    bins = reliability(np.concatenate(confidences), correct)
    return Curve(expected_calibration_error(bins), bins)


def _unknown(seeds: list[Prediction], true: np.ndarray) -> Unknown:
    """Score the cells called unknown, of all seeds together; scores of no cell are None."""
    is_novel = np.concatenate([~np.isin(true, seed.labels) for seed in seeds])
    correct = np.concatenate([seed.predicted == true for seed in seeds])
    unknown = np.concatenate([seed.obs["scbert_is_unknown"].to_numpy(dtype=bool) for seed in seeds])
    plain = [
        confidence.change_temperature(seed.probabilities, seed.temperature, 1.0).max(axis=1)
        for seed in seeds
    ]
    original = np.concatenate(plain) < ORIGINAL_THRESHOLD
    return Unknown(
        threshold=[seed.threshold for seed in seeds],
        novelty_score=seeds[0].novelty_score,
        novel_types=sorted(set(true) - set(seeds[0].labels)),
        novel_cells=int(is_novel.sum()),
        calibrated=unknown_scores(unknown, is_novel, correct),
        original=unknown_scores(original, is_novel, correct),
        by_score=[_by_score(seed, true) for seed in seeds],
    )


def _by_score(seed: Prediction, true: np.ndarray) -> dict[str, Order]:
    """How well the novelty score and the confidence of one model order the cells."""
    correct, is_novel = seed.predicted == true, ~np.isin(true, seed.labels)
    return {
        name: Order(novelty_auroc(score, is_novel), coverage_accuracy(score, correct))
        for name, score in (
            ("novelty", seed.obs["scbert_novelty_score"].to_numpy()),
            ("confidence", 1 - seed.obs["scbert_confidence"].to_numpy()),
        )
    }
