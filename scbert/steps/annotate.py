"""Step annotate: cells of any AnnData + a fine-tuned model -> cell types with confidence."""

import logging
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from scbert import __version__
from scbert.cells.counts import (
    check_names,
    library_sizes,
    read_cells,
    require_column,
    select_matrix,
    write_cells,
)
from scbert.cells.expression import cell_sums, denominators, normalize
from scbert.cells.genes import GeneMatch, align, gene_names, match_genes, vocabulary_sha256
from scbert.cells.scale import Scale, guess_scale
from scbert.cells.splits import unlabelled_part
from scbert.cells.store import TokenStore, store_in_memory
from scbert.cells.tables import read_table
from scbert.cells.tokens import Sample, bin_expression
from scbert.evidence.confidence import softmax
from scbert.evidence.hierarchy import level_calls
from scbert.evidence.novelty import novelty
from scbert.network.model import CellTypeModel
from scbert.training.batches import CellBatches
from scbert.training.bundle import Bundle, load_bundle
from scbert.training.predict import predict

log = logging.getLogger(__name__)


def annotate(
    adata: ad.AnnData,
    model: str | Path | Bundle,
    *,
    matrix: str = "auto",
    library_size_key: str = "",
    cluster_key: str = "",
    name: str = "adata",
) -> ad.AnnData:
    """Name the type of each cell.

    Parameters
    ----------
    adata
        Cells x genes: counts or log-normalised expression; var_names are human symbols or Ensembl
        ids. It is not changed.
    model
        The folder of a fine-tuned model, or one that `load_bundle` has read.
    matrix
        X, raw.X, layers/NAME, or auto: the first that exists of layers/counts, raw.X and X.
    library_size_key
        Column of obs with all counts of each cell, if the matrix holds counts of some genes only.
    cluster_key
        Column of obs with clusters: each gets the label of most of its cells as well.
    name
        What to call the data in errors.

    Returns
    -------
    A copy with, in obs, scbert_label, scbert_label_ontology_term_id, scbert_confidence (calibrated
    probability of the label), scbert_is_unknown, scbert_novelty_score, where the model knows the
    types' parents scbert_parent_label, scbert_parent_confidence and scbert_best_label, and, with
    `cluster_key`, scbert_majority_voting; in obsm X_scbert and scbert_probabilities (one column per
    type, in the order of uns['scbert']['labels']); in uns scbert.

    Raises
    ------
    ValueError
        If the cells cannot be used or share too few genes with the model.
    """
    bundle = model if isinstance(model, Bundle) else load_bundle(Path(model))
    if bundle.labels is None or bundle.calibration is None:
        which = "the model" if isinstance(model, Bundle) else model
        raise ValueError(f"{which} is pretrained only and knows no cell types. Fine-tune it first.")
    if adata.n_obs == 0:
        raise ValueError(f"{name} has no cells, so there is nothing to annotate. Give other cells.")
    if cluster_key:
        require_column(adata.obs, cluster_key, name)
    if not bundle.calibration["validation_cells"]:
        log.warning(
            "the model is not calibrated: confidence is its plain softmax, and no cell is called "
            "unknown"
        )
    check_names(adata, name)
    sample, match, scale, found = _tokenize(adata, bundle, matrix, library_size_key, name)
    log.info(
        "%s: %s holds %s; %d of %d genes are known to the model (%d by Ensembl id, %d by symbol, "
        "%d by an older name or alias)",
        *(name, found, scale, match.matched, len(match.index)),
        *(match.by_id, match.by_symbol, match.by_alias),
    )
    logits, vectors = _run(bundle, store_in_memory(sample))
    result = adata.copy()
    result.obs = result.obs.drop(columns="scbert_majority_voting", errors="ignore")  # of before
    _write_calls(result, logits, vectors, bundle)
    if cluster_key:
        result.obs["scbert_majority_voting"] = _vote(result.obs, cluster_key)
    result.uns["scbert"] = _provenance(bundle, match, scale, found)
    return result


def annotate_file(query: Path, model: Path, out: Path, **options: str) -> ad.AnnData:
    """Annotate a file and write the result as .h5ad; the options are those of `annotate`."""
    result = annotate(read_cells(query), model, name=str(query), **options)
    write_cells(out, result)
    return result


def annotate_test_cells(counts: Path, split: Path, model: Path, predictions: Path) -> None:
    """Annotate the test cells of a dataset, without letting the model see a label."""
    test = unlabelled_part(ad.read_h5ad(counts), read_table(split, "cell", "part"), "test")
    result = annotate(test, model, matrix="X", library_size_key="library_size", name=str(counts))
    write_cells(predictions, result)


def _tokenize(
    adata: ad.AnnData, bundle: Bundle, choice: str, library_size_key: str, name: str
) -> tuple[Sample, GeneMatch, Scale, str]:
    matrix, var, found = select_matrix(adata, choice, name)
    scale = guess_scale(matrix, f"{found} of {name}")
    match = match_genes(gene_names(var), bundle.genes)
    _require_overlap(match, bundle, name)
    normalization = bundle.config["normalization"]
    target_sum = normalization["target_sum"]
    linear = matrix.astype(np.float64)
    if scale.kind == "log1p":
        if library_size_key:
            log.warning("%s holds %s: obs['%s'] is not used", name, scale, library_size_key)
        linear.data = scale.base**linear.data - 1
        library = np.full(adata.n_obs, scale.target_sum or target_sum)
    else:
        given = library_sizes(adata.obs, library_size_key, name)
        library = cell_sums(linear) if given is None else given
    kept = match.share_of_counts(linear)
    log.info("%s: %.1f%% of the counts are of genes that the model knows", name, 100 * (kept or 0))
    aligned = align(linear, match)
    size = denominators(aligned, library, normalization["denominator"])
    expression = normalize(aligned, size, target_sum)
    bins = bin_expression(expression, bundle.config["n_bins"])
    below_one = int(expression.nnz - bins.nnz)
    sample = Sample(name, adata.obs_names.tolist(), bins, match.measured, below_one)
    return sample, match, scale, found


def _require_overlap(match: GeneMatch, bundle: Bundle, name: str) -> None:
    needed = bundle.config["annotate"]["min_gene_overlap"]
    share = match.matched / max(1, len(match.index))
    if share < needed or match.matched == 0:
        raise ValueError(
            f"only {match.matched} of the {len(match.index)} genes of {name} ({share:.1%}) are "
            f"among the {match.vocabulary_size} that the model knows, {needed:.0%} are needed; "
            f"unknown are {', '.join(match.unmatched[:3])}, ... Use human gene symbols or Ensembl "
            "ids as var_names."
        )


def _run(bundle: Bundle, store: TokenStore) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(bundle.model, CellTypeModel)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = bundle.config
    cells = CellBatches(
        store, config["sequence"], config["n_bins"], config["annotate"]["tokens_per_batch"]
    )
    with tqdm(total=len(store), unit=" cells", disable=None) as bar:
        return predict(bundle.model.to(device), cells, np.arange(len(store)), device, bar.update)


def _write_calls(
    result: ad.AnnData, logits: np.ndarray, vectors: np.ndarray, bundle: Bundle
) -> None:
    assert bundle.labels is not None
    assert bundle.calibration is not None
    names = [label["name"] for label in bundle.labels]
    terms = [label["ontology_term_id"] for label in bundle.labels]
    probabilities = softmax(logits, bundle.calibration["temperature"])
    best = probabilities.argmax(axis=1)
    scores = novelty(logits, vectors, bundle.calibration)
    calls = {
        "scbert_label": pd.Categorical.from_codes(best, pd.Index(names)),
        "scbert_label_ontology_term_id": np.array(terms, dtype=object)[best],
        "scbert_confidence": probabilities.max(axis=1),
        "scbert_is_unknown": scores > bundle.calibration["novelty_threshold"],
        "scbert_novelty_score": scores,
        **level_calls(probabilities, bundle.labels, bundle.calibration),
    }
    for column, values in calls.items():
        result.obs[column] = values
    result.obsm["X_scbert"] = vectors
    columns = [name.replace("/", "|") for name in names]  # .h5ad files cannot hold a slash in names
    result.obsm["scbert_probabilities"] = pd.DataFrame(
        probabilities, index=result.obs_names, columns=columns
    )


def _vote(obs: pd.DataFrame, cluster_key: str) -> pd.Series:
    """Return for each cell the label of most cells of its cluster (ties: the first by name)."""
    winner = obs.groupby(cluster_key, observed=True).scbert_label.agg(
        lambda labels: labels.astype(str).mode().iloc[0]
    )
    return obs[cluster_key].map(winner).astype("category")


def _provenance(bundle: Bundle, match: GeneMatch, scale: Scale, found: str) -> dict[str, Any]:
    assert bundle.labels is not None
    assert bundle.calibration is not None
    overlap = {key: n for key, n in match.summary().items() if not key.endswith("_examples")}
    return {
        "version": __version__,
        "model_sha256": bundle.sha256,
        "vocabulary_sha256": vocabulary_sha256(bundle.genes),
        "labels": [label["name"] for label in bundle.labels],
        **{
            key: bundle.calibration[key]
            for key in ("temperature", "novelty_score", "novelty_threshold", "false_unknown_rate")
        },
        "calibrated": bundle.calibration["validation_cells"] > 0,
        "matrix": found,
        "scale": str(scale),
        "genes": overlap,
    }
