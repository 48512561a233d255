"""Step explain: cells + a fine-tuned model -> genes behind each type, and a test of them.

Nothing here chooses a model, a setting or a threshold: cells are explained, not learnt from.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from scbert.cells.counts import read_cells, require_column
from scbert.cells.query import query_in_memory
from scbert.cells.store import open_store
from scbert.cells.tables import read_table
from scbert.config import DeviceName, Explain
from scbert.evidence.deletion import falls, halves, plan_removals
from scbert.evidence.explanations import (
    Ranking,
    considered_genes,
    means_where_given,
    rank_types,
    type_means,
)
from scbert.evidence.faithfulness import judge_deletions
from scbert.experts.linear import LinearExpert
from scbert.network.mean import MeanOfGenes
from scbert.network.model import CellTypeModel
from scbert.steps.annotate import finetuned
from scbert.steps.explanation import Explanation, write_explanation
from scbert.steps.known_genes import KnownGenes, read_known_genes
from scbert.steps.question import Question, ask
from scbert.steps.tokens import tokens_for
from scbert.training.attributions import attention_of_cells, gradients_of_cells, store_without
from scbert.training.batches import CellBatches
from scbert.training.bundle import Bundle
from scbert.training.committee import ENCODER
from scbert.training.devices import choose_device

log = logging.getLogger(__name__)


def explain_test_cells(
    tokens: Path,
    split: Path,
    model: Path,
    markers: Sequence[Path],
    marker_types: Sequence[Path],
    gene_sets: Sequence[Path],
    explanation: Path,
    settings: Explain,
    device: DeviceName,
) -> None:
    """Explain the labels that a model gives to the test cells of a dataset.

    Parameters
    ----------
    tokens
        Token store of the dataset.
    markers, marker_types
        PanglaoDB's list of markers and a table of labels; at most one each.
    explanation
        The folder to write.
    device
        See `choose_device`.
    """
    bundle, store = finetuned(model), open_store(tokens)
    part = read_table(split, "cell", "part").set_index("cell").part
    rows = np.flatnonzero((part[store.cell_names()] == "test").to_numpy())
    question = ask(split.stem, bundle, store, rows, None, settings, choose_device(device))
    known = read_known_genes(bundle, markers, marker_types, gene_sets)
    write_explanation(explanation, explain(question, known, settings))


def explain_file(
    query: Path,
    model: Path,
    out: Path,
    *,
    label_key: str,
    matrix: str,
    scale: str,
    library_size_key: str,
    settings: Explain,
    device: DeviceName,
) -> dict[str, Any]:
    """Explain the labels of a file's cells: those of a column, or those that the model gives.

    Parameters
    ----------
    query
        Cells as `annotate` takes them.
    out
        The folder to write; an explanation that is there already is replaced.
    label_key
        Column of obs with labels of the model; empty: the labels that the model gives.
    settings
        Its markers, marker_types and gene_sets are paths.
    device
        See `choose_device`.

    Returns
    -------
    The content of explanation.json.

    Raises
    ------
    ValueError
        If the cells cannot be used, fewer than two types have cells, or `out` is another folder.
    """
    if out.exists() and not (out / "explanation.json").is_file():
        raise ValueError(
            f"{out} exists but was not written by scbert explain, so it is not "
            "replaced. Give a new folder."
        )
    here = choose_device(device)  # before the reading, which may take long
    bundle = finetuned(model)
    adata = read_cells(query)
    given = None
    if label_key:
        given = require_column(adata.obs, label_key, str(query)).astype(str).to_numpy()
    columns = [library_size_key] if library_size_key else []
    cells = query_in_memory(adata, matrix, columns, str(query))
    store = tokens_for(cells, bundle, library_size_key, scale).store()
    rows = np.arange(len(store))
    question = ask(query.stem, bundle, store, rows, given, settings, here)
    known = read_known_genes(
        bundle,
        [Path(file) for file in [settings.markers] if file],
        [Path(file) for file in [settings.marker_types] if file],
        [Path(file) for file in settings.gene_sets],
    )
    return write_explanation(out, explain(question, known, settings))


def explain(question: Question, known: KnownGenes, settings: Explain) -> Explanation:
    """Rank the genes of each type by every method, and test each ranking by deletion."""
    assert question.bundle.labels is not None
    present, code = np.unique(question.labels, return_inverse=True)
    types = [question.bundle.labels[number]["name"] for number in present]
    log.info("%s: explaining %d cells of %d types", question.name, len(code), len(types))
    expression_NV = question.expression()
    cells = question.batches(question.store, settings.tokens_per_batch)
    gradients, missed = _gradients(question, cells, expression_NV, settings.steps)
    attention = attention_of_cells(question.model, cells, question.rows, question.device)
    weights = _weights(question.bundle, present)

    def rank(of: np.ndarray) -> dict[str, Ranking]:
        """Rank by a part of the cells."""
        n_types = len(types)
        considered = considered_genes(expression_NV[of], code[of], n_types, settings.min_expressed)
        contribution = type_means(gradients[of], code[of], n_types)
        scores = {
            "gradients": contribution,
            "gradients_mean": contribution,
            "attention": means_where_given(
                attention[of], attention[of] > 0, code[of], n_types, neutral=1.0
            ),
            "expression": type_means(expression_NV[of], code[of], n_types),
        }
        return {
            method: rank_types(method, score, considered)
            for method, score in (scores | weights).items()
        }

    half = halves(code)
    ranks = {
        (method, tested): one.rank
        for tested in (0, 1)
        for method, one in rank(half != tested).items()
    }
    judged = _test(question, ranks, code, half, [types[number] for number in code], settings)
    return Explanation(
        name=question.name,
        labels_from=question.labels_from,
        bundle=question.bundle,
        types=types,
        cells=np.bincount(code).tolist(),
        rankings=list(rank(np.ones(len(code), dtype=bool)).values()),
        missed=missed,
        judged=judged,
        known=known,
        settings=settings,
        notes=question.notes,
    )


def _weights(bundle: Bundle, present: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights of the model's logistic regression, if that is one of its experts."""
    regression = bundle.experts.get("logistic_regression")
    return {} if regression is None else {"logistic_regression": regression.weight_CV[present]}


def _gradients(
    question: Question, cells: CellBatches, expression_NV: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what each gene adds to the answer of the experts together, shape (cells, vocabulary).

    What they read in the tokens themselves is linear, so weight times expression is exact; what the
    encoder tells them is integrated. Also returned is what that lacks to add up, (cells,).
    """
    committee, labels = question.bundle.committee, question.labels
    added_NV = np.zeros(expression_NV.shape)
    for name, expert in committee.experts.items():
        share = committee.shares[name]
        added_NV += share.weight / share.temperature * expert.weight_CV[labels] * expression_NV
    if not committee.asks_encoder:
        return added_NV, np.zeros(len(labels))
    share = committee.shares[ENCODER]
    network = read_by(question.model, committee.experts.get(ENCODER))
    gradients_NV, missed_N = gradients_of_cells(
        network.to(question.device),
        cells,
        question.rows,
        labels,
        steps=steps,
        device=question.device,
    )
    return added_NV + share.weight / share.temperature * gradients_NV, missed_N


def read_by(
    network: CellTypeModel | MeanOfGenes, expert: LinearExpert | None
) -> CellTypeModel | MeanOfGenes:
    """Return what gives the logits that an expert reads in the encoder's cell vectors."""
    if expert is None:
        return network
    assert isinstance(network, MeanOfGenes)
    return MeanOfGenes(network.encoder, torch.from_numpy(expert.vector_weight_CD))


def _test(
    question: Question,
    ranks: dict[tuple[str, int], np.ndarray],
    code: np.ndarray,
    half: np.ndarray,
    types: Sequence[str],
    settings: Explain,
) -> pd.DataFrame:
    """Remove genes, ask the model again, and judge."""
    tokens = [question.store.tokens(row) for row in question.rows]
    plan = plan_removals(tokens, code, half, ranks, settings)
    if plan.empty:
        raise ValueError(
            f"no cell of {question.name} expresses {2 * min(settings.deletions)} genes, so none "
            "can be removed and compared. Give cells with more genes, or smaller deletions."
        )
    cell = plan.cell.to_numpy()
    before = question.probabilities(question.store, question.rows)
    store = store_without(question.store, question.rows[cell], plan.genes.tolist())
    after = question.probabilities(store, np.arange(len(plan)))
    label = question.labels[cell]
    fall = before[cell, label] - after[np.arange(len(plan)), label]
    return judge_deletions(falls(plan, fall, types), settings)
