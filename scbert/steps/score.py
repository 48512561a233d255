"""scbert evaluate: a fine-tuned model + a labelled file -> how well it names the cells.

The model never sees a label. Beside it stand each of its experts alone, fitted on the same cells,
and the most frequent type of those.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from scbert import __version__
from scbert.cells.counts import write_cells
from scbert.cells.samples import read_sample
from scbert.cells.scale import EXPECTED_COUNTS
from scbert.cells.store import TokenStore, store_in_memory
from scbert.config import Config, Dataset, DeviceName, Evaluate, Normalization
from scbert.evidence import metrics
from scbert.evidence.card_experts import NAMES as EXPERTS
from scbert.files import sha256_of, write_json
from scbert.shipped import model_folder
from scbert.steps.annotate import annotate
from scbert.steps.evaluate import score_seeds
from scbert.steps.predictions import prediction_of
from scbert.steps.reference import dataset_of, reading_of, settings_of
from scbert.steps.tokenize import normalize_counts
from scbert.steps.tokenize import read_sample as read_tokens
from scbert.training.bundle import Bundle, load_bundle
from scbert.training.devices import choose_device
from scbert.training.seen_cells import fingerprints

log = logging.getLogger(__name__)

COLUMNS = {  # of obs, by method
    "scbert": "scbert_label",
    **{name: f"scbert_label_{name}" for name in EXPERTS},
    "majority": "majority",
}
TITLES = {"scbert": "scBERT", "majority": "Most frequent type"} | {
    name: f"scBERT, its {title} alone" for name, title in EXPERTS.items()
}


def evaluate_model(
    model: str | Path,
    test: str | Path,
    *,
    label_key: str,
    batch_key: str = "",
    out: str | Path | None = None,
    matrix: str = "auto",
    scale: str = "auto",
    library_size_key: str = "",
    device: DeviceName = "auto",
) -> dict[str, Any]:
    """Name the cells of a labelled file without its labels, and score the names.

    Scored are the cells of types that the model knows. Those of other types, which it cannot name,
    are reported apart, as novel: how many of them it calls unknown.

    Parameters
    ----------
    model
        Folder of a fine-tuned model.
    test
        Cells x genes with known types: .h5ad, .h5 or folder of 10x, or .csv. Cells that the model
        was trained on are left out, whatever they are called.
    label_key, batch_key
        Columns of obs: cell type, spelled as in the model; donor, laboratory or study, to score
        each apart. Cells without a type or without counts are left out.
    out
        Folder for evaluation.json; None: nothing is written.
    matrix, scale, library_size_key, device
        As for `annotate`.

    Returns
    -------
    The content of evaluation.json.

    Raises
    ------
    ValueError
        If model or file cannot be used, the model was trained on all cells, or no cell is of a type
        that the model knows.
    """
    choose_device(device)  # refuses before the reading, which may take long
    folder, file = model_folder(model), Path(test)
    bundle = load_bundle(folder)
    settings = settings_of(bundle, None, None)
    dataset = dataset_of(file, label_key, batch_key, matrix, scale, library_size_key)
    cells, left_out = read_labelled(file, dataset, settings)
    store = tokens_of(cells, folder, bundle)
    rows = unseen_cells(store, bundle)
    left_out["of the training"] = len(store) - len(rows)
    named = predict_types(cells[rows].copy(), bundle, device)
    content = {
        "version": __version__,
        "model": folder.name,
        "model_sha256": bundle.sha256,
        "test": file.name,
        "test_sha256": sha256_of(file),
        "left_out": left_out,
        **score_cells(named, bundle, settings.evaluate),
    }
    if out is not None:
        write_json(Path(out) / "evaluation.json", content)
    return content


def read_labelled(
    file: Path, dataset: Dataset, config: Config
) -> tuple[ad.AnnData, dict[str, int]]:
    """Read the counts of cells with a known type, and count those that are left out.

    Raises
    ------
    ValueError
        If the file cannot be used, or no cell is left.
    """
    cells = read_sample(file, reading_of(dataset, config)).cells
    empty, untyped = (cells.obs.n_genes == 0), (cells.obs.cell_type == "")
    left_out = {"without type": int(untyped.sum()), "without counts": int((empty & ~untyped).sum())}
    keep = (~empty & ~untyped).to_numpy()
    if not keep.any():
        raise ValueError(
            f"none of the {len(keep)} cells of {file} has a type in obs['{dataset.label_key}'] and "
            "a count. Name the column with the cell types, or give other cells."
        )
    return cells[keep].copy(), left_out


def unseen_cells(store: TokenStore, bundle: Bundle) -> np.ndarray:
    """Return the rows of the cells that the model was not trained on, ascending.

    Raises
    ------
    ValueError
        If there is none.
    """
    rows = np.arange(len(store))
    if bundle.seen is None:  # of a model that another program or version trained
        return rows
    seen = np.isin(fingerprints(store, rows), bundle.seen)
    if seen.all():
        raise ValueError(
            f"the model was trained on all {len(seen):,} cells, or chosen by them, so they say "
            "nothing about new ones. Give cells that it has not seen; the scores of its own test "
            "cells are in its README.md."
        )
    if seen.any():
        log.warning(
            "%s of the %s cells are left out: the model was trained on them, or chosen by them",
            *(f"{seen.sum():,}", f"{len(seen):,}"),
        )
    return rows[~seen]


def predict_types(
    cells: ad.AnnData,
    bundle: Bundle,
    device: DeviceName = "auto",
) -> ad.AnnData:
    """Return annotated cells with their true cell_type and batch, and each method's names.

    Written to obs: majority, if the bundle says what it was trained on; scbert_label, each expert's
    and the rest as `annotate` does, which gets no label.
    """
    unlabelled = ad.AnnData(cells.X, obs=cells.obs[["library_size"]].copy(), var=cells.var)
    named = annotate(
        *(unlabelled, bundle),
        matrix="X",
        scale=EXPECTED_COUNTS,  # they were checked when they were read
        library_size_key="library_size",
        device=device,
        name="the test cells",
    )
    for column in ("cell_type", "batch"):
        if column in cells.obs:
            named.obs[column] = cells.obs[column].to_numpy(dtype=str)
    per_type = bundle.config.get("cells_per_type")
    if per_type:
        named.obs["majority"] = max(per_type, key=per_type.get)
    return named


def tokens_of(cells: ad.AnnData, folder: Path, bundle: Bundle) -> TokenStore:
    """Tokenize counts as those of the training cells were."""
    normalization = Normalization.model_validate(bundle.config["normalization"])
    with tempfile.TemporaryDirectory() as workspace:
        counts, expression = Path(workspace) / "counts.h5ad", Path(workspace) / "test.h5ad"
        write_cells(counts, cells)
        overlap = Path(workspace) / "overlap.json"
        normalize_counts(counts, folder / "genes.tsv", expression, overlap, normalization)
        return store_in_memory(read_tokens(expression, bundle.config["n_bins"], bundle.genes))


def _names(bundle: Bundle) -> list[str]:
    assert bundle.labels is not None  # annotate has refused other bundles
    return [label["name"] for label in bundle.labels]


def score_cells(named: ad.AnnData, bundle: Bundle, settings: Evaluate) -> dict[str, Any]:
    """Score the names that `predict_types` gave.

    Raises
    ------
    ValueError
        If no cell is of a type that the model knows.
    """
    classes = _names(bundle)
    true = named.obs.cell_type.to_numpy(dtype=str)
    known = np.isin(true, classes)
    if not known.any():
        raise ValueError(
            f"none of the {len(true)} cells is of a type that the model knows. The file has "
            f"{_some(sorted(set(true)))}; the model {_some(classes)}. Spell the types as the "
            "model does."
        )
    cells, true = named[known], true[known]
    predicted = {
        method: cells.obs[column].to_numpy(dtype=str)
        for method, column in COLUMNS.items()
        if column in cells.obs
    }
    seed = bundle.config.get("seed", 0)  # a converted model has none
    return {
        **score_seeds([prediction_of(cells, seed, Path("the model"))], true, settings),
        "methods": [
            {
                "method": method,
                "title": TITLES[method],
                **metrics.bootstrap_scores(true, [labels], classes, settings),
            }
            for method, labels in predicted.items()
        ],
        "differences": [
            {
                "method": method,
                **metrics.paired_difference(
                    true, [predicted["scbert"]], [labels], classes, settings
                ),
            }
            for method, labels in predicted.items()
            if method != "scbert"
        ],
        "batches": _batches(cells.obs, true, predicted, classes),
        "novel": _novel(named.obs, known),
    }


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _batches(
    obs: pd.DataFrame, true: np.ndarray, predicted: dict[str, np.ndarray], classes: list[str]
) -> list[dict[str, Any]]:
    """Score the cells of each batch apart; empty without batches."""
    if "batch" not in obs:
        return []
    rows = {name: (obs.batch == name).to_numpy() for name in sorted(obs.batch.unique())}
    return [
        {
            "batch": name,
            "cells": int(own.sum()),
            **{
                method: metrics.scores(true[own], labels[own], classes)
                for method, labels in predicted.items()
            },
        }
        for name, own in rows.items()
    ]


def _novel(obs: pd.DataFrame, known: np.ndarray) -> dict[str, Any] | None:
    """Say how cells of types that the model does not know were met; None if there are none."""
    if known.all():
        return None
    unknown, types = obs.scbert_is_unknown.to_numpy(dtype=bool), obs.cell_type[~known]
    return {
        "cells": int((~known).sum()),
        "cell_types": {str(name): int(n) for name, n in types.value_counts().items()},
        "share_called_unknown": float(unknown[~known].mean()),
        "share_of_known_called_unknown": float(unknown[known].mean()),
        "auroc": float(roc_auc_score(~known, obs.scbert_novelty_score)),
    }
