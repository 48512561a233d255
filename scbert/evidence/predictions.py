"""The split, and the predictions of each seed's model for the test cells."""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from scbert.cells.splits import PARTS
from scbert.evidence.bootstrap import Interval
from scbert.evidence.comparison import Part
from scbert.experts.titles import EXPERT_TITLES as TITLES
from scbert.tables import read_table

log = logging.getLogger("scbert")


@dataclass(frozen=True)
class Prediction:
    """What one model says about the test cells, in the order of the split table."""

    seed: int
    labels: list[str]
    obs: pd.DataFrame
    probabilities: np.ndarray
    embedding: np.ndarray
    temperature: float
    novelty_score: str
    threshold: float  # of the novelty score

    @property
    def predicted(self) -> np.ndarray:
        """The predicted cell type of each test cell."""
        return self.obs["scbert_label"].to_numpy(dtype=str)

    @property
    def experts(self) -> dict[str, np.ndarray]:
        """What each expert that was asked predicts alone; empty for a model of one."""
        columns = {name: f"scbert_label_{name}" for name in TITLES}
        return {
            name: self.obs[column].to_numpy(dtype=str)
            for name, column in columns.items()
            if column in self.obs
        }


def read_split(path: Path, parts: Iterable[str] = PARTS) -> pd.DataFrame:
    """Read the parts of a dataset, indexed by cell.

    Parameters
    ----------
    parts
        Those that must have cells.

    Raises
    ------
    ValueError
        If a cell is in it twice, or a part is empty.
    """
    table = read_table(path, "cell", "cell_type", "part").set_index("cell")
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][0]
        raise ValueError(
            f"{path} lists cell '{twice}' more than once, but a cell may be in one part only, "
            "otherwise the test is not independent. Make the split again."
        )
    empty = [part for part in parts if part not in set(table["part"])]
    if empty:
        raise ValueError(
            f"{path} has no cell in {', '.join(empty)}, but fitting, choosing and testing need "
            "cells of their own. Make the split again with larger fractions."
        )
    return table


def describe_parts(table: pd.DataFrame) -> dict[str, Part]:
    """Return the cells of each type, and the batches, in each part."""
    return {
        str(part): Part(
            cell_types={str(k): int(n) for k, n in cells.cell_type.value_counts().items()},
            batches=sorted(set(cells.batch) - {""}) if "batch" in cells else [],
        )
        for part, cells in table.groupby("part")
    }


def read_predictions(paths: list[Path], cells: pd.Index) -> list[Prediction]:
    """Read what the model of each seed says about the test cells, by seed.

    Parameters
    ----------
    paths
        One file seed{n}.h5ad per seed.
    cells
        The test cells; the predictions are brought into this order.

    Raises
    ------
    ValueError
        If a file's cells are not the test cells, or it predicts a type that its model cannot know.
    """
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
            f"{path} does not say its seed, which is shown with each score. "
            "Name a file of predictions seed{n}.h5ad, as in seed2021.h5ad."
        )
    adata = ad.read_h5ad(path)
    _require_test_cells(adata.obs_names, cells, path)
    return prediction_of(adata[cells], int(name[1]), path)


def prediction_of(adata: ad.AnnData, seed: int, path: Path) -> Prediction:
    """Take a model's predictions from annotated cells; the errors name the file `path`.

    Raises
    ------
    ValueError
        If it predicts a type that its model cannot know, or holds NaN or infinity.
    """
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
            f"{path} holds NaN or infinity, so its model did not learn. Look at its history.jsonl "
            "and lower the learning rate."
        )
    return Prediction(
        seed=seed,
        labels=labels,
        obs=adata.obs,
        probabilities=probabilities,
        embedding=embedding,
        temperature=float(about["temperature"]),
        novelty_score=str(about["novelty_score"]),
        threshold=float(about["novelty_threshold"]),
    )


def _require_test_cells(found: pd.Index, cells: pd.Index, path: Path) -> None:
    extra, missing = found.difference(cells), cells.difference(found)
    if len(extra) or len(missing) or not found.is_unique:
        example = [*extra, *missing, *found[found.duplicated()]][0]
        raise ValueError(
            f"{path} does not hold exactly the {len(cells)} test cells of the split: {len(extra)} "
            f"unexpected, {len(missing)} missing, {found.duplicated().sum()} duplicated, such as "
            f"'{example}'. Scores count each test cell once. Annotate the cells of this split."
        )


def all_classes(seeds: list[Prediction], cell_types: Iterable[str]) -> list[str]:
    """List the types that the models know, then those that only the data know."""
    known = seeds[0].labels
    return known + sorted(set(cell_types) - set(known))


def log_scores(title: str, found: Mapping[str, Interval], note: str) -> None:
    """Log each metric with its interval."""
    values = ", ".join(
        f"{metric.replace('_', ' ')} {score.mean:.3f} ({score.low:.3f} to {score.high:.3f})"
        for metric, score in found.items()
    )
    log.info("%s: %s. %s", title, values, note)
