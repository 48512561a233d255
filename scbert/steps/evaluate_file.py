"""scbert evaluate: a fine-tuned model + a labelled file -> how well it names the cells.

The model never sees a label. Beside it stand each of its experts alone, fitted on the same cells,
and the most frequent type of those.
"""

import logging
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

from scbert import __version__
from scbert.cells.cautions import Caution, by_code, say
from scbert.cells.how_to_read import HowToRead
from scbert.cells.learned_labels import labels_by_chance, labels_not_in_model
from scbert.config import Config, Dataset, DeviceName
from scbert.evidence.evaluation import FileEvaluation
from scbert.evidence.file_scores import score_file
from scbert.experts.chance import by_chance, macro_f1
from scbert.files import JsonObject, sha256_of
from scbert.genes.matching import match_genes, require_match
from scbert.shipped import model_folder
from scbert.steps.annotate_file import annotate_checked
from scbert.tokens.store import store_in_memory
from scbert.tokens.tokenize import expression_of_counts, tokenize
from scbert.training.bundle import load_finetuned
from scbert.training.devices import choose_device
from scbert.training.labelled_file import (
    LabelledFile,
    dataset_of,
    path_of,
    read_labelled,
    settings_of,
    unseen_cells,
)
from scbert.training.query_tokens import normalization_of
from scbert.training.saved_model import FinetunedModel, SavedModel

log = logging.getLogger(__name__)


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
) -> JsonObject:
    """Name the cells of a labelled file without its labels, and score the names.

    Scored are the cells of types that the model knows. Those of other types, which it cannot name,
    are reported apart, as novel: how many of them it calls unknown.

    Parameters
    ----------
    model
        Folder of a fine-tuned model.
    test
        Cells x genes with known types: .h5ad, .zarr, .h5mu, .h5 or folder of 10x. Cells of the
        training are left out, unless their counts were changed (sequenced again, thinned, ...).
    label_key, batch_key
        Columns of obs: cell type, spelled as in the model; donor, laboratory or study, to score
        each apart. Cells without a type or without counts are left out.
    out
        Folder for evaluation.json, which is replaced if it is there; None: nothing is written.
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
    file = path_of(test)
    choose_device(device)  # refuses before the reading, which may take long
    folder = model_folder(model)
    loaded, reading = load_finetuned(folder), HowToRead(matrix, scale, library_size_key)
    dataset = dataset_of(file, reading, label_key=label_key, batch_key=batch_key)
    found = _evaluate(loaded, file, dataset, name=folder.name, device=device)
    if out is not None:
        _write(found, Path(out) / "evaluation.json")
    return found.content()


def _write(found: FileEvaluation, evaluation: Path) -> None:
    if evaluation.exists():
        log.info("%s, an earlier evaluation, is replaced by this one", evaluation)
    found.write(evaluation)


def _evaluate(
    model: FinetunedModel, file: Path, dataset: Dataset, *, name: str, device: DeviceName
) -> FileEvaluation:
    """Score a model, called `name`, by the cells of a file that it has not seen."""
    settings = settings_of(model, None, None)
    unseen = _read_unseen(file, dataset, settings, model)
    named = predict_types(unseen.cells, model, device)
    other_names = labels_not_in_model(named.obs, model.types, dataset.label_key)
    by_labels = [*other_names, *_beside_chance(named, model.types)]
    say(by_labels, file.name, log)
    seed = model.config.get("seed", 0)  # a converted model has none
    scores = score_file(named, model.types, settings.evaluate, seed)
    return FileEvaluation(
        version=__version__,
        model=name,
        model_sha256=model.sha256,
        test=file.name,
        test_sha256=sha256_of(file),
        left_out=unseen.left_out,
        scbert=scores.scbert,
        methods=scores.methods,
        differences=scores.differences,
        batches=scores.batches,
        novel=scores.novel,
        warnings=by_code([*unseen.cautions, *by_labels]) | named.uns["scbert"]["warnings"],
    )


def _read_unseen(
    file: Path, dataset: Dataset, settings: Config, model: FinetunedModel
) -> LabelledFile:
    """Read the cells with a known type that the model was not trained on."""
    found = read_labelled(file, dataset, settings, model)
    expression, measured = expression_in(found.cells, model, str(file))
    names, n_bins = found.cells.obs_names.astype(str).tolist(), model.config["n_bins"]
    store = store_in_memory(tokenize(str(file), names, expression, measured, n_bins=n_bins))
    rows = unseen_cells(store, expression, model)
    left_out = found.left_out | {"of the training": len(store) - len(rows)}
    return replace(found, cells=found.cells[rows].copy(), left_out=left_out)


def _beside_chance(named: ad.AnnData, types: list[str]) -> list[Caution]:
    """Warn if the labels of the known types are named as if they were shuffled."""
    number = {name: place for place, name in enumerate(types)}
    known = named.obs[named.obs.cell_type.isin(types)]
    label, answer = (
        known[column].astype(str).map(number).to_numpy() for column in ("cell_type", "scbert_label")
    )
    if not len(label):
        return []
    score, n_known = macro_f1(answer, label, len(types)), len(np.unique(label))
    chance = by_chance(answer, label, len(types))
    return labels_by_chance(score, chance, n_cells=len(label), n_types=n_known)


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
        named.obs["majority"] = max(per_type, key=per_type.__getitem__)
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
