"""scbert evaluate: a fine-tuned model + a labelled file -> how well it names the cells.

The model never sees a label. Beside it stand each of its experts alone, fitted on the same cells,
and the most frequent type of those.
"""

import logging
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.metrics import roc_auc_score

from scbert import __version__
from scbert.cells.cautions import Caution, by_code, say
from scbert.cells.how_to_read import HowToRead
from scbert.cells.labels import labels_by_chance
from scbert.config import DeviceName, Evaluate
from scbert.evidence import metrics
from scbert.evidence.comparison import Interval
from scbert.evidence.evaluation import (
    BatchScores,
    FileDifference,
    FileEvaluation,
    FileMethod,
    NovelCells,
    SeedScores,
)
from scbert.evidence.predictions import prediction_of
from scbert.evidence.test_scores import score_seeds
from scbert.experts.chance import by_chance, macro_f1
from scbert.experts.titles import EXPERT_TITLES as EXPERTS
from scbert.files import sha256_of
from scbert.genes.matching import match_genes, require_match
from scbert.shipped import model_folder
from scbert.steps.annotate_file import annotate_checked
from scbert.tokens.store import store_in_memory
from scbert.tokens.tokenize import expression_of_counts, tokenize
from scbert.training.bundle import load_finetuned
from scbert.training.devices import choose_device
from scbert.training.labelled_file import dataset_of, read_labelled, settings_of, unseen_cells
from scbert.training.query_tokens import normalization_of
from scbert.training.saved_model import FinetunedModel, SavedModel

log = logging.getLogger(__name__)
COLUMNS = {  # of obs, by method
    "scbert": "scbert_label",
    **{name: f"scbert_label_{name}" for name in EXPERTS},
    "majority": "majority",
}
TITLES = {"scbert": "scBERT", "majority": "Most frequent type"} | {
    name: f"scBERT, its {title} alone" for name, title in EXPERTS.items()
}


def evaluate_file(
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
        Cells x genes with known types: .h5ad, .zarr, .h5mu, .h5 or folder of 10x. Cells that the
        model was trained on are left out, whatever they are called, whichever genes were left out,
        as counts or log1p of them. They are not recognised by other counts: of the same cells
        sequenced again, thinned, or corrected for ambient RNA.
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
    loaded = load_finetuned(folder)
    settings = settings_of(loaded, None, None)
    reading = HowToRead(matrix, scale, library_size_key)
    dataset = dataset_of(file, reading, label_key=label_key, batch_key=batch_key)
    cells, left_out, cautions = read_labelled(file, dataset, settings, loaded)
    expression, measured = expression_in(cells, loaded, str(file))
    names, n_bins = cells.obs_names.astype(str).tolist(), loaded.config["n_bins"]
    store = store_in_memory(tokenize(str(file), names, expression, measured, n_bins))
    rows = unseen_cells(store, expression, loaded)
    left_out["of the training"] = len(store) - len(rows)
    named = predict_types(cells[rows].copy(), loaded, device)
    by_labels = _beside_chance(named, loaded.types)
    say(by_labels, file.name, log)
    found = FileEvaluation(
        version=__version__,
        model=folder.name,
        model_sha256=loaded.sha256,
        test=file.name,
        test_sha256=sha256_of(file),
        left_out=left_out,
        warnings=by_code([*cautions, *by_labels]) | named.uns["scbert"]["warnings"],
        **score_cells(named, loaded, settings.evaluate),
    )
    if out is not None:
        found.write(Path(out) / "evaluation.json")
    return found.content()


def _beside_chance(named: ad.AnnData, types: list[str]) -> list[Caution]:
    """Warn if the labels of the known types are named as if they were shuffled."""
    number = {name: place for place, name in enumerate(types)}
    known = named.obs[named.obs.cell_type.isin(types)]
    label, answer = (
        known[column].astype(str).map(number).to_numpy() for column in ("cell_type", "scbert_label")
    )
    if not len(label):
        return []
    score = macro_f1(answer, label, len(types))
    return labels_by_chance(score, by_chance(answer, label, len(types)))


def predict_types(
    cells: ad.AnnData,
    model: FinetunedModel,
    device: DeviceName = "auto",
) -> ad.AnnData:
    """Return annotated cells with their true cell_type and batch, and each method's names.

    Written to obs: majority, if the model says what it was trained on; scbert_label, each expert's
    and the rest as `annotate` does, which gets no label.
    """
    unlabelled = ad.AnnData(cells.X, obs=cells.obs[["library_size"]].copy(), var=cells.var)
    named = annotate_checked(unlabelled, model, device, "the test cells")
    for column in ("cell_type", "batch"):
        if column in cells.obs:
            named.obs[column] = cells.obs[column].to_numpy(dtype=str)
    per_type = model.config.get("cells_per_type")
    if per_type:
        named.obs["majority"] = max(per_type, key=per_type.get)
    return named


def expression_in(
    cells: ad.AnnData, model: SavedModel, name: str
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return the expression of the model's genes, and which it has, as the training cells'."""
    genes = match_genes(cells.var[["symbol", "gene_id"]].astype(str), model.genes)
    require_match(genes, model.genes, name)
    counts, library_size = sparse.csr_matrix(cells.X), cells.obs.library_size.to_numpy()
    expression = expression_of_counts(counts, library_size, genes, normalization_of(model))
    return expression, genes.measured


def score_cells(named: ad.AnnData, model: FinetunedModel, settings: Evaluate) -> dict[str, Any]:
    """Score the names that `predict_types` gave: the scores of a `FileEvaluation`, by field.

    Raises
    ------
    ValueError
        If no cell is of a type that the model knows.
    """
    classes = model.types
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
    seed = model.config.get("seed", 0)  # a converted model has none
    of_scbert = prediction_of(cells, seed, Path("the model"))
    return {
        "scbert": score_seeds([of_scbert], true, settings),
        "methods": [
            FileMethod(method, TITLES[method], **_scores(true, labels, classes, settings))
            for method, labels in predicted.items()
        ],
        "differences": [
            FileDifference(
                method, **_differences(true, predicted["scbert"], labels, classes, settings)
            )
            for method, labels in predicted.items()
            if method != "scbert"
        ],
        "batches": _batches(cells.obs, true, predicted, classes),
        "novel": _novel(named.obs, known),
    }


def _scores(
    true: np.ndarray, labels: np.ndarray, classes: list[str], settings: Evaluate
) -> dict[str, SeedScores]:
    found = metrics.bootstrap_scores(true, [labels], classes, settings)
    return {metric: SeedScores(**one) for metric, one in found.items()}


def _differences(
    true: np.ndarray, ours: np.ndarray, theirs: np.ndarray, classes: list[str], settings: Evaluate
) -> dict[str, Interval]:
    found = metrics.paired_difference(true, [ours], [theirs], classes, settings)
    return {metric: Interval(**one) for metric, one in found.items()}


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _batches(
    obs: pd.DataFrame, true: np.ndarray, predicted: dict[str, np.ndarray], classes: list[str]
) -> list[BatchScores]:
    """Score the cells of each batch apart; empty without batches."""
    if "batch" not in obs:
        return []
    rows = {name: (obs.batch == name).to_numpy() for name in sorted(obs.batch.unique())}
    return [
        BatchScores(
            batch=name,
            cells=int(own.sum()),
            scores={
                method: metrics.scores(true[own], labels[own], classes)
                for method, labels in predicted.items()
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
