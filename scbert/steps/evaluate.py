"""Rules evaluate and compare: predictions of the test cells -> scores; scBERT beside baselines.

Only here do predictions meet the true labels of the test cells, which come from the split table.
"""

import logging
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.splits import PARTS
from scbert.cells.tables import read_table
from scbert.config import CompareSettings, Evaluate
from scbert.evidence import confidence, metrics
from scbert.evidence.baselines import Baseline, LabelledCells, fit_baseline
from scbert.files import write_json

log = logging.getLogger("scbert")

MIN_CELLS_FOR_UMAP = 15  # umap-learn's own number of neighbours; below it there is no neighbourhood


@dataclass(frozen=True)
class Prediction:
    """What one model says about the test cells, in the order of the split table."""

    seed: int
    labels: list[str]
    obs: pd.DataFrame
    probabilities: np.ndarray
    embedding: np.ndarray
    temperature: float
    threshold: float

    @property
    def predicted(self) -> np.ndarray:
        """The predicted cell type of each test cell."""
        return self.obs["scbert_label"].to_numpy(dtype=str)


def evaluate(predictions: list[Path], split: Path, evaluation: Path, settings: Evaluate) -> None:
    """Score the predictions of all seeds against the true types of the test cells.

    Parameters
    ----------
    predictions
        One file seed{n}.h5ad per seed, with exactly the test cells of the split.
    split
        Table of cells: cell, cell_type, batch, part.
    evaluation
        The JSON file to write.
    settings
        Bootstrap and bins.

    Raises
    ------
    ValueError
        If a file's cells are not the test cells, or it predicts a type that its model cannot know.
    """
    test = _read_split(split).query("part == 'test'")
    true, seeds = test["cell_type"].to_numpy(dtype=str), _read_predictions(predictions, test.index)
    classes, predicted = _classes(seeds, true), [seed.predicted for seed in seeds]
    found = metrics.bootstrap_scores(true, predicted, classes, settings)
    tables = [metrics.confusion(true, labels, classes) for labels in predicted]
    content = {
        "dataset": split.stem,
        "classes": classes,
        "n_test": len(true),
        "seeds": [seed.seed for seed in seeds],
        "confidence_level": settings.confidence_level,
        "scores": found,
        "confusion": np.sum(tables, axis=0).tolist(),
        "per_type": metrics.per_type_scores(true, predicted, classes),
        "reliability": _reliability(seeds, true, settings.reliability_bins),
        "unknown": _unknown(seeds, true),
        "embedding": _embedding(seeds[0], true, settings.seed),
    }
    write_json(evaluation, content)
    _log_scores("scBERT", found, f"{len(true)} test cells, {len(seeds)} seed(s).")


def compare(
    expression: Path,
    split: Path,
    predictions: list[Path],
    comparison: Path,
    settings: CompareSettings,
) -> None:
    """Score baselines and controls on the same test cells, and their difference from scBERT.

    Parameters
    ----------
    expression
        AnnData with log2(1 + counts per 10 000) of at least the cells of the split.
    split, predictions
        As for `evaluate`.
    comparison
        The JSON file to write.
    settings
        Methods, grids, bins and bootstrap.

    Raises
    ------
    ValueError
        As for `evaluate`, or if cells of the split have no expression.
    """
    table = _read_split(split)
    cells = _labelled_parts(expression, table)
    test, seeds = cells["test"], _read_predictions(predictions, table.query("part == 'test'").index)
    ours, classes = [seed.predicted for seed in seeds], _classes(seeds, table["cell_type"])
    found = metrics.bootstrap_scores(test.cell_types, ours, classes, settings.evaluate)
    methods = [_describe_scbert(seeds) | _without_seeds(found)]
    differences: list[dict[str, Any]] = []
    for method in settings.compare.methods:
        baseline = fit_baseline(
            method, cells["train"], cells["validation"], settings.compare, settings.binning.n_bins
        )
        theirs = [baseline.predict(test.expression)]
        found = metrics.bootstrap_scores(test.cell_types, theirs, classes, settings.evaluate)
        methods.append(_describe(baseline) | _without_seeds(found))
        difference = metrics.paired_difference(
            test.cell_types, ours, theirs, classes, settings.evaluate
        )
        differences += [
            {"method": method, "metric": metric, **difference[metric]}
            for metric in ("macro_f1", "accuracy")
        ]
        _log_scores(baseline.title, found, baseline.setting)
    content = {
        "dataset": split.stem,
        **{f"n_{part}": len(cells[part].cell_types) for part in ("test", "train", "validation")},
        "confidence_level": settings.evaluate.confidence_level,
        "interval": _describe_interval(settings.evaluate),
        "methods": methods,
        "differences": differences,
    }
    write_json(comparison, content)


def _read_split(path: Path) -> pd.DataFrame:
    table = read_table(path, "cell", "cell_type", "part").set_index("cell")
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0]
        raise ValueError(
            f"{path} lists cell '{twice}' more than once, but a cell may be in one part only, or "
            "the test is not one. Make the split again."
        )
    empty = [part for part in PARTS if part not in set(table["part"])]
    if empty:
        raise ValueError(
            f"{path} has no cell in {', '.join(empty)}, but fitting, choosing and testing need "
            "cells of their own. Make the split again with larger fractions."
        )
    return table


def _read_predictions(paths: list[Path], cells: pd.Index) -> list[Prediction]:
    if not paths:
        raise ValueError(
            "no prediction is given, but scores need at least one. Pass seed{n}.h5ad, one per seed."
        )
    seeds = sorted((_read_prediction(path, cells) for path in paths), key=lambda seed: seed.seed)
    for seed in seeds[1:]:
        if seed.labels != seeds[0].labels:
            raise ValueError(
                f"seed {seed.seed} knows other cell types than seed {seeds[0].seed}, so their "
                "scores have no common mean. Fine-tune both on the same split."
            )
    return seeds


def _read_prediction(path: Path, cells: pd.Index) -> Prediction:
    name = re.fullmatch(r"seed(\d+)\.h5ad", path.name)
    if name is None:
        raise ValueError(
            f"{path} does not say its seed, which stands beside each score. "
            "Name a file of predictions seed{n}.h5ad, as in seed2021.h5ad."
        )
    adata = ad.read_h5ad(path)
    _require_test_cells(adata.obs_names, cells, path)
    adata = adata[cells]
    about, labels = adata.uns["scbert"], [str(label) for label in adata.uns["scbert"]["labels"]]
    strangers = sorted(set(adata.obs["scbert_label"].astype(str)) - set(labels))
    if strangers:
        raise ValueError(
            f"{path} predicts '{strangers[0]}', but its model knows only {', '.join(labels)}. "
            "Annotate the test cells again with the model of this seed."
        )
    probabilities = np.asarray(adata.obsm["scbert_probabilities"], dtype=np.float64)
    embedding = np.asarray(adata.obsm["X_scbert"])
    if not (np.isfinite(probabilities).all() and np.isfinite(embedding).all()):
        raise ValueError(
            f"{path} holds NaN or infinity, so its model did not learn. "
            "Look at its history.jsonl and lower the learning rate."
        )
    return Prediction(
        seed=int(name[1]),
        labels=labels,
        obs=adata.obs,
        probabilities=probabilities,
        embedding=embedding,
        temperature=float(about["temperature"]),
        threshold=float(about["novelty_threshold"]),
    )


def _require_test_cells(found: pd.Index, cells: pd.Index, path: Path) -> None:
    extra, missing = found.difference(cells), cells.difference(found)
    if len(extra) or len(missing) or not found.is_unique:
        example = [*extra, *missing, *found[found.duplicated()]][0]
        raise ValueError(
            f"{path} does not hold exactly the {len(cells)} test cells of the split: {len(extra)} "
            f"other, {len(missing)} missing, {found.duplicated().sum()} double, such as "
            f"'{example}'. Scores count each test cell once. Annotate the cells of this split."
        )


def _labelled_parts(expression: Path, table: pd.DataFrame) -> dict[str, LabelledCells]:
    adata = ad.read_h5ad(expression)
    missing = table.index.difference(adata.obs_names)
    if len(missing):
        raise ValueError(
            f"{expression} lacks {len(missing)} of the {len(table)} cells of the split, such as "
            f"'{missing[0]}', but every method needs the same cells. Make both from one dataset."
        )
    cells = {}
    for part, rows in table.groupby("part"):
        matrix = sparse.csr_matrix(adata[rows.index].X)
        cells[str(part)] = LabelledCells(matrix, rows["cell_type"].to_numpy(dtype=str))
    return cells


def _classes(seeds: list[Prediction], cell_types: Iterable[str]) -> list[str]:
    """List the types that the models know, then those that only the data know."""
    known = seeds[0].labels
    return known + sorted(set(cell_types) - set(known))


def _reliability(seeds: list[Prediction], true: np.ndarray, n_bins: int) -> dict[str, Any]:
    """Reliability before and after calibration, over the cells of all seeds together."""
    correct = np.concatenate([seed.predicted == true for seed in seeds])
    before = [
        confidence.change_temperature(seed.probabilities, seed.temperature, 1.0).max(axis=1)
        for seed in seeds
    ]
    after = [seed.obs["scbert_confidence"].to_numpy() for seed in seeds]
    result: dict[str, Any] = {"temperature": [seed.temperature for seed in seeds]}
    for name, values in (("before", before), ("after", after)):
        bins = confidence.reliability(np.concatenate(values), correct, n_bins)
        result[name] = {"ece": confidence.expected_calibration_error(bins), "bins": bins}
    return result


def _unknown(seeds: list[Prediction], true: np.ndarray) -> dict[str, Any]:
    """Refused cells over all seeds together; the accuracy is None if every cell is refused."""
    refused = np.concatenate([seed.obs["scbert_is_unknown"].to_numpy(dtype=bool) for seed in seeds])
    correct = np.concatenate([seed.predicted == true for seed in seeds])
    return {
        "threshold": [seed.threshold for seed in seeds],
        "share_unknown": float(refused.mean()),
        "accuracy_of_known": None if refused.all() else float(correct[~refused].mean()),
    }


def _embedding(prediction: Prediction, true: np.ndarray, seed: int) -> list[dict[str, Any]]:
    points = plane_coordinates(prediction.embedding, seed)
    rows = zip(prediction.obs.index, points.tolist(), true, prediction.predicted, strict=True)
    return [
        {"cell": cell, "x": x, "y": y, "true": str(label), "predicted": str(predicted)}
        for cell, (x, y), label, predicted in rows
    ]


def plane_coordinates(embedding: np.ndarray, seed: int) -> np.ndarray:
    """Lay cells out in a plane, similar ones near each other, to be looked at and not measured.

    Parameters
    ----------
    embedding
        Shape (cells, D).
    seed
        Of UMAP.

    Returns
    -------
    Shape (cells, 2): UMAP (McInnes et al. 2018), or, for fewer than 15 cells and for cells that are
    all alike, where UMAP has no neighbourhoods to learn from, the first two principal components.
    """
    if len(embedding) < MIN_CELLS_FOR_UMAP or not np.ptp(embedding, axis=0).any():
        centred = embedding - embedding.mean(axis=0)
        left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
        points = (left * sizes)[:, :2]
        return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        from umap import UMAP  # noqa: PLC0415  importing it takes seconds

    n_neighbors = min(15, len(embedding) - 1)
    return UMAP(n_neighbors=n_neighbors, random_state=seed, n_jobs=1).fit_transform(embedding)


def _describe_scbert(seeds: list[Prediction]) -> dict[str, Any]:
    names = ", ".join(str(seed.seed) for seed in seeds)
    setting = f"Mean over {len(seeds)} fine-tuned model(s), seed {names}."
    return {
        "method": "scbert",
        "title": "scBERT",
        "kind": "model",
        "setting": setting,
        "validation_macro_f1": None,  # it stands in the history of each model
    }


def _describe(baseline: Baseline) -> dict[str, Any]:
    names = ("method", "title", "kind", "setting", "validation_macro_f1")
    return {name: getattr(baseline, name) for name in names}


def _describe_interval(settings: Evaluate) -> str:
    return (
        f"{settings.confidence_level:.0%} percentile bootstrap: {settings.bootstrap_samples} "
        "resamples of the test cells, the same for every method and seed, scoring the mean over "
        "seeds; the spread of training again is not in it."
    )


def _without_seeds(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        metric: {key: interval[key] for key in ("mean", "low", "high")}
        for metric, interval in found.items()
    }


def _log_scores(title: str, found: dict[str, dict[str, Any]], note: str) -> None:
    values = ", ".join(
        f"{metric.replace('_', ' ')} {interval['mean']:.3f} "
        f"({interval['low']:.3f} to {interval['high']:.3f})"
        for metric, interval in found.items()
    )
    log.info("%s: %s. %s", title, values, note)
