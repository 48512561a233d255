"""Rule evaluate_test_cells: predictions -> scores, reliability, novel cells, a map."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from scbert.config import Evaluate
from scbert.evidence.evaluation import Place
from scbert.evidence.plane import plane_coordinates
from scbert.evidence.predictions import Prediction, read_predictions, read_split
from scbert.evidence.test_scores import evaluate_scores


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
