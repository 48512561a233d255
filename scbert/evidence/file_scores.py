"""Scores of the names that a model and its experts give to the cells of a file of one's own.

Scored are the cells of types that the model knows; those of other types, which it cannot name, are
reported apart, as novel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from scbert.cells.cautions import some
from scbert.config import Evaluate
from scbert.evidence import metrics
from scbert.evidence.evaluation import (
    BatchScores,
    FileDifference,
    FileMethod,
    ModelScores,
    NovelCells,
)
from scbert.evidence.predictions import prediction_of
from scbert.evidence.test_scores import score_seeds
from scbert.experts.titles import EXPERT_TITLES as EXPERTS

COLUMNS = {  # of obs, by method
    "scbert": "scbert_label",
    **{name: f"scbert_label_{name}" for name in EXPERTS},
    "majority": "majority",
}
TITLES = {"scbert": "scBERT", "majority": "Most frequent type"} | {
    name: f"scBERT, its {title} alone" for name, title in EXPERTS.items()
}


@dataclass(frozen=True)
class FileScores:
    """The scores of a `FileEvaluation`."""

    scbert: ModelScores
    methods: list[FileMethod]
    differences: list[FileDifference]
    batches: list[BatchScores]
    novel: NovelCells | None


def score_file(
    named: ad.AnnData, classes: Sequence[str], settings: Evaluate, seed: int
) -> FileScores:
    """Score the names of cells whose types are known.

    Parameters
    ----------
    named
        What `annotate` gives back, with the true cell_type in obs, perhaps batch, and majority, the
        name that the most frequent type of the training cells would give.
    classes
        The types that the model knows.
    seed
        Of the model.

    Raises
    ------
    ValueError
        If no cell is of a type that the model knows.
    """
    true = named.obs.cell_type.to_numpy(dtype=str)
    known = np.isin(true, classes)
    if not known.any():
        raise ValueError(
            f"none of the {len(true)} cells is of a type that the model knows. The file has "
            f"{some(sorted(set(true)))}; the model {some(classes)}. Spell the types as the "
            "model does."
        )
    cells, judge = named[known], _Judge(true[known], list(classes), settings)
    names = {
        method: cells.obs[column].to_numpy(dtype=str)
        for method, column in COLUMNS.items()
        if column in cells.obs
    }
    others = [method for method in names if method != "scbert"]
    of_scbert = prediction_of(cells, seed, Path("the model"))
    return FileScores(
        scbert=score_seeds([of_scbert], judge.true, settings),
        methods=[judge.method(method, names[method]) for method in names],
        differences=[judge.ahead_of(name, names["scbert"], names[name]) for name in others],
        batches=judge.batches(cells.obs, names),
        novel=_novel(named.obs, known),
    )


@dataclass(frozen=True)
class _Judge:
    """The true types, (cells,), all types that can be named, and how to score."""

    true: np.ndarray
    classes: list[str]
    settings: Evaluate

    def method(self, method: str, names: np.ndarray) -> FileMethod:
        """Return the scores of a method, with intervals."""
        scores = metrics.bootstrap_scores(self.true, [names], self.classes, self.settings)
        return FileMethod(method, TITLES[method], **scores)

    def ahead_of(self, method: str, ours: np.ndarray, theirs: np.ndarray) -> FileDifference:
        """Return how far scBERT is ahead of a method, on the same resamples."""
        ahead = metrics.paired_difference(self.true, [ours], [theirs], self.classes, self.settings)
        return FileDifference(method, **ahead)

    def batches(self, obs: pd.DataFrame, names: dict[str, np.ndarray]) -> list[BatchScores]:
        """Score the cells of each batch apart; empty without batches."""
        if "batch" not in obs:
            return []
        rows = {name: (obs.batch == name).to_numpy() for name in sorted(obs.batch.unique())}
        return [
            BatchScores(
                batch=name,
                cells=int(own.sum()),
                scores={
                    method: metrics.scores(self.true[own], labels[own], self.classes)
                    for method, labels in names.items()
                },
            )
            for name, own in rows.items()
        ]


def _novel(obs: pd.DataFrame, known: np.ndarray) -> NovelCells | None:
    """Say how cells of types that the model does not know were met; None if there are none."""
    if known.all():
        return None
    unknown, types = obs.scbert_is_unknown.to_numpy(dtype=bool), obs.cell_type[~known]
    return NovelCells(
        cells=int((~known).sum()),
        cell_types={str(name): int(n) for name, n in types.value_counts().items()},
        share_called_unknown=float(unknown[~known].mean()),
        share_of_known_called_unknown=float(unknown[known].mean()),
        auroc=float(roc_auc_score(~known, obs.scbert_novelty_score)),
    )
