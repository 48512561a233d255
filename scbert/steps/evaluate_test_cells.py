"""Rule evaluate: predictions of the test cells -> scores, reliability, novel cells, a map."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from scbert.config import Evaluate
from scbert.evidence.evaluation import Place
from scbert.evidence.predictions import Prediction, read_predictions, read_split
from scbert.evidence.test_scores import evaluate_scores

MIN_CELLS_FOR_UMAP = 15  # umap-learn's own number of neighbours; below it there is no neighbourhood


def evaluate_test_cells(
    predictions: list[Path], split: Path, evaluation: Path, settings: Evaluate
) -> None:
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
    found = evaluate_scores(predictions, split, settings)
    test = read_split(split).query("part == 'test'")
    first = read_predictions(predictions, test.index)[0]
    true = test["cell_type"].to_numpy(dtype=str)
    replace(found, embedding=_embedding(first, true, settings.seed)).write(evaluation)


def _embedding(prediction: Prediction, true: np.ndarray, seed: int) -> list[Place]:
    points = plane_coordinates(prediction.embedding, seed)
    rows = zip(prediction.obs.index, points.tolist(), true, prediction.predicted, strict=True)
    return [
        Place(cell, x, y, true=str(label), predicted=str(predicted))
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
