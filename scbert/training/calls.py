"""Cells to be annotated + a fine-tuned model -> the calls: types with confidence and novelty."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from scbert import __version__
from scbert.calibration.confidence import softmax
from scbert.calibration.novelty import CellOutputs, novelty
from scbert.calibration.parents import level_calls
from scbert.cells.cautions import Caution, by_code, say
from scbert.cells.learned_labels import cautions_of_learning
from scbert.cells.query import QueryCells
from scbert.cells.query_cautions import many_unknown, not_calibrated
from scbert.config import DeviceName
from scbert.experts.combiner import agreement
from scbert.experts.titles import EXPERT_TITLES as EXPERTS
from scbert.genes.matching import GeneMatch, vocabulary_sha256
from scbert.shipped import model_folder
from scbert.training.answers import Answers, each_answer, joined_answers
from scbert.training.bundle import load_model
from scbert.training.committee import Outputs
from scbert.training.devices import choose_device
from scbert.training.query_tokens import QueryTokens, tokens_for
from scbert.training.saved_model import FinetunedModel, SavedModel, require_finetuned

log = logging.getLogger(__name__)
MANY_TIMES = 2  # what calibration expects; below it, protocols and chance explain unknown cells
VOTE = "scbert_majority_voting"
STALE = [  # columns of an earlier result that this one may not have
    VOTE,
    "scbert_agreement",
    *(f"scbert_label_{name}" for name in EXPERTS),
    "scbert_parent_label",
    "scbert_parent_confidence",
    "scbert_best_label",
]


def finetuned(model: str | Path | SavedModel) -> FinetunedModel:
    """Read a model that is to name cell types, and warn if its confidence was not calibrated."""
    if isinstance(model, SavedModel):
        found = require_finetuned(model, "the model")
    else:
        found = require_finetuned(load_model(model_folder(model)), str(model))
    for caution in cautions_of_model(found):
        log.warning("%s", caution)
    return found


def cautions_of_model(model: FinetunedModel) -> list[Caution]:
    """Return what makes all that a model says less sure."""
    if "out_of_fold" in model.calibration:
        return cautions_of_learning(model.calibration, len(model.types), model.config["cells"])
    return [] if model.calibrated else [not_calibrated()]


def call(
    query: QueryCells,
    model: FinetunedModel,
    *,
    cluster_key: str,
    device: DeviceName,
    all_experts: bool = False,
) -> ad.AnnData:
    """Return the new columns of obs, arrays of obsm and uns['scbert'], without a matrix."""
    here = choose_device(device)  # before the reading, which may take long
    tokens = tokens_for(query, model)
    answers = joined_answers(each_answer(tokens, model, here, all_experts=all_experts))
    return calls_of(answers, tokens, model, cluster_key=cluster_key, all_experts=all_experts)


def calls_of(
    answers: Answers,
    tokens: QueryTokens,
    model: FinetunedModel,
    *,
    cluster_key: str,
    all_experts: bool = False,
) -> ad.AnnData:
    """Return what `call` does, of the model's answers to all cells.

    Returns
    -------
    obs
        scbert_label, scbert_label_ontology_term_id, scbert_confidence (calibrated probability of
        the label), scbert_is_unknown, scbert_novelty_score; where the model knows the types'
        parents scbert_parent_label, scbert_parent_confidence and scbert_best_label; of a model with
        several experts what each alone would say (scbert_label_EXPERT) and the share of them that
        gives the label (scbert_agreement); with `cluster_key`, scbert_majority_voting.
    obsm
        X_scbert: the encoder's cell vector, or where it was not asked the position among the
        principal components of the training cells; uns says which. scbert_probabilities: a column
        per type, in the order of uns['scbert']['labels'].
    uns
        scbert, with warnings: what makes the result less sure than it looks, by code.
    """
    query, found = tokens.query, answers.outputs
    of_counts = answers.cautions(tokens)
    result = ad.AnnData(obs=pd.DataFrame(index=query.obs.index.astype(str)))
    _write_calls(result, found, model)
    if len(found.experts) > 1:
        for name, logits in found.experts.items():
            result.obs[f"scbert_label_{name}"] = _names(logits, model)
        result.obs["scbert_agreement"] = agreement(found.experts, found.logits.argmax(axis=1))
    if cluster_key:
        result.obs[VOTE] = _vote(result.obs.scbert_label, query.obs[cluster_key])
    of_calls = _cautions_of_calls(result.obs.scbert_is_unknown, model)
    say(of_calls, query.name, log)
    cautions = [*tokens.cautions, *of_counts, *of_calls]
    cautions += cautions_of_model(model)
    result.uns["scbert"] = made_by(tokens, cautions) | _called_by(model, tokens.match)
    asked = model.committee.runs_network(all_experts=all_experts)
    result.uns["scbert"]["vectors"] = "encoder" if asked else "principal components"
    return result


def _write_calls(result: ad.AnnData, found: Outputs, model: FinetunedModel) -> None:
    if not np.isfinite(found.logits).all():
        raise ValueError(
            "the model returned NaN or infinite values for some cells, so its weights are damaged. "
            "Copy it again from where it was made, or train it again."
        )
    terms = [label["ontology_term_id"] for label in model.labels]
    probabilities = softmax(found.logits, model.calibration["temperature"])
    best = probabilities.argmax(axis=1)
    scores = novelty(CellOutputs(found.logits, found.positions), model.calibration)
    calls = {
        "scbert_label": _names(found.logits, model),
        "scbert_label_ontology_term_id": np.array(terms, dtype=object)[best],
        "scbert_confidence": probabilities.max(axis=1),
        "scbert_is_unknown": scores > model.calibration["novelty_threshold"],
        "scbert_novelty_score": scores,
        **level_calls(probabilities, model.labels, model.calibration.get("levels")),
    }
    for column, values in calls.items():
        result.obs[column] = values
    result.obsm["X_scbert"] = found.vectors
    result.obsm["scbert_probabilities"] = pd.DataFrame(
        probabilities, index=result.obs_names, columns=_column_names(model.types)
    )


def _column_names(types: Sequence[str]) -> list[str]:
    """Return a name for the column of each type; .h5ad files cannot hold a slash in names."""
    columns: list[str] = []
    for name in types:
        column = name.replace("/", "|")
        while column != name and column in {*types, *columns}:  # A/B beside A|B
            column += "|"
        columns.append(column)
    return columns


def _names(logits: np.ndarray, model: FinetunedModel) -> pd.Categorical:
    """Return the type with the largest logit of each cell."""
    names = pd.Index(model.types, dtype=object)
    return pd.Categorical.from_codes(logits.argmax(axis=1), names)


def _vote(labels: pd.Series, clusters: pd.Series) -> pd.Series:
    """Return for each cell the label of most cells of its cluster (ties: the first by name)."""
    clusters = clusters.set_axis(labels.index)
    winner = labels.astype(str).groupby(clusters, observed=True).agg(lambda of: of.mode().iloc[0])
    return clusters.map(winner).astype("category")


def _cautions_of_calls(is_unknown: pd.Series, model: FinetunedModel) -> list[Caution]:
    """Warn if more cells are unknown than the calibration expects of known types."""
    share, n_cells = float(is_unknown.mean()), len(is_unknown)
    expected = model.calibration["false_unknown_rate"]
    chance = 3 * float(np.sqrt(expected * (1 - expected) / n_cells))
    if share <= max(MANY_TIMES * expected, expected + chance):
        return []
    return [many_unknown(share, expected, n_cells)]


def made_by(tokens: QueryTokens, cautions: Sequence[Caution]) -> dict[str, Any]:
    """Say which program and model made a result, of what, and what makes it less sure."""
    return {
        "version": __version__,
        "model_sha256": tokens.model.sha256,
        "vocabulary_sha256": vocabulary_sha256(tokens.model.genes),
        "matrix": tokens.query.found,
        "matrix_chosen": tokens.query.chosen.why,
        "features_left_out": tokens.query.chosen.left_out,
        "scale": str(tokens.scale),
        "warnings": by_code(cautions),
    }


def _called_by(model: FinetunedModel, match: GeneMatch) -> dict[str, Any]:
    """Say what the calls rest on: types, calibration, genes."""
    fitted = model.calibration
    genes = {key: n for key, n in match.summary().items() if not key.endswith("_examples")}
    return {
        "labels": model.types,
        "temperature": fitted["temperature"],
        "novelty_score": fitted["novelty_score"],
        "novelty_threshold": fitted["novelty_threshold"],
        "false_unknown_rate": fitted["false_unknown_rate"],
        "calibrated": model.calibrated,
        "genes": genes,
    }
