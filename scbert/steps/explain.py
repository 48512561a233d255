"""Step explain: cells + a fine-tuned model -> genes that speak for each type, and whether they do.

Nothing here chooses a model, a setting or a threshold: cells are explained, not learnt from.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from scbert.cells.counts import check_names, read_cells, require_column
from scbert.cells.store import TokenStore, open_store, store_in_memory
from scbert.cells.tables import read_table
from scbert.config import Explain
from scbert.evidence.confidence import softmax
from scbert.evidence.deletion import falls, halves, judge_deletions, plan_removals
from scbert.evidence.explanations import (
    Ranking,
    considered_genes,
    means_where_given,
    rank_types,
    type_means,
)
from scbert.network.model import CellTypeModel
from scbert.steps.annotate import _tokenize
from scbert.steps.explanation import Explanation, write_explanation
from scbert.steps.known_genes import KnownGenes, read_known_genes
from scbert.training.attributions import attention_of_cells, gradients_of_cells, store_without
from scbert.training.batches import CellBatches
from scbert.training.bundle import Bundle, load_bundle
from scbert.training.predict import predict

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """Cells whose labels are to be explained.

    `labels` has shape (cells,): what each cell of `rows` is called, a number among the model's.
    """

    name: str
    labels_from: str
    bundle: Bundle
    model: CellTypeModel
    store: TokenStore
    rows: np.ndarray
    labels: np.ndarray
    device: torch.device
    notes: list[str] = field(default_factory=list)

    def batches(self, store: TokenStore, tokens_per_batch: int) -> CellBatches:
        """Return the cells of a store as the network takes them."""
        config = self.bundle.config
        return CellBatches(store, config["sequence"], config["n_bins"], tokens_per_batch)

    def probabilities(self, store: TokenStore, rows: np.ndarray) -> np.ndarray:
        """Return the calibrated probability of each type, shape (cells, types)."""
        assert self.bundle.calibration is not None
        at_once = self.bundle.config["annotate"]["tokens_per_batch"]
        logits, _ = predict(self.model, self.batches(store, at_once), rows, self.device)
        return softmax(logits, self.bundle.calibration["temperature"])


def explain_test_cells(
    tokens: Path,
    split: Path,
    model: Path,
    markers: Sequence[Path],
    marker_types: Sequence[Path],
    gene_sets: Sequence[Path],
    explanation: Path,
    settings: Explain,
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
    """
    bundle, store = _load(model), open_store(tokens)
    part = read_table(split, "cell", "part").set_index("cell").part
    rows = np.flatnonzero((part[store.cell_names()] == "test").to_numpy())
    question = _ask(split.stem, bundle, store, rows, None, settings)
    known = read_known_genes(bundle, markers, marker_types, gene_sets, settings.max_genes_per_set)
    write_explanation(explanation, explain(question, known, settings))


def explain_file(
    query: Path,
    model: Path,
    out: Path,
    *,
    label_key: str,
    matrix: str,
    library_size_key: str,
    settings: Explain,
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
            f"{out} exists and is no explanation, so it is not replaced. Give a new folder."
        )
    bundle = _load(model)
    adata = read_cells(query)
    check_names(adata, str(query))
    given = None
    if label_key:
        given = require_column(adata.obs, label_key, str(query)).astype(str).to_numpy()
    store = store_in_memory(_tokenize(adata, bundle, matrix, library_size_key, str(query))[0])
    rows = np.arange(len(store))
    question = _ask(query.stem, bundle, store, rows, given, settings)
    known = read_known_genes(
        bundle,
        [Path(file) for file in [settings.markers] if file],
        [Path(file) for file in [settings.marker_types] if file],
        [Path(file) for file in settings.gene_sets],
        settings.max_genes_per_set,
    )
    return write_explanation(out, explain(question, known, settings))


def explain(question: Question, known: KnownGenes, settings: Explain) -> Explanation:
    """Rank the genes of each type by every method, and test each ranking by deletion."""
    assert question.bundle.labels is not None
    present, code = np.unique(question.labels, return_inverse=True)
    types = [question.bundle.labels[number]["name"] for number in present]
    log.info("%s: explaining %d cells of %d types", question.name, len(code), len(types))
    bins_NV = _bins(question)
    cells = question.batches(question.store, settings.tokens_per_batch)
    gradients, missed = gradients_of_cells(
        question.model,
        cells,
        question.rows,
        question.labels,
        steps=settings.steps,
        device=question.device,
    )
    attention = attention_of_cells(question.model, cells, question.rows, question.device)
    weights = _weights(question.bundle, present)

    def rank(of: np.ndarray) -> dict[str, Ranking]:
        """Rank by a part of the cells."""
        n_types = len(types)
        considered = considered_genes(bins_NV[of], code[of], n_types, settings.min_expressed)
        scores = {
            "gradients": type_means(gradients[of], code[of], n_types),
            "attention": means_where_given(
                attention[of], attention[of] > 0, code[of], n_types, neutral=1.0
            ),
            "expression": type_means(bins_NV[of], code[of], n_types),
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


def _load(model: Path) -> Bundle:
    bundle = load_bundle(model)
    if bundle.labels is None:
        raise ValueError(f"{model} is pretrained only and knows no cell types. Fine-tune it first.")
    return bundle


def _ask(
    name: str,
    bundle: Bundle,
    store: TokenStore,
    rows: np.ndarray,
    given: np.ndarray | None,
    settings: Explain,
) -> Question:
    """Draw cells of each type, by the labels that are given or else by the model's."""
    assert bundle.labels is not None
    assert isinstance(bundle.model, CellTypeModel)
    names = [label["name"] for label in bundle.labels]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = bundle.model.to(device).eval()
    source = "labels of the model" if given is None else "labels of the file"
    question = Question(name, source, bundle, network, store, rows, rows, device)
    if given is None:
        labels = question.probabilities(store, rows).argmax(axis=1)
    else:
        labels = pd.Categorical(given, categories=names).codes.astype(np.int64)
    chosen, notes = _draw(labels, settings), []
    if given is not None and (labels < 0).any():
        strange = sorted(set(given[labels < 0]))
        notes.append(
            f"{(labels < 0).sum()} cells with labels that the model does not know were left out: "
            f"{', '.join(strange[:5])}."
        )
    few = sorted(names[number] for number in {*labels.tolist()} - {*labels[chosen].tolist(), -1})
    if few:
        notes.append(f"Types with a single cell were left out: {', '.join(few)}.")
    found = sorted({names[number] for number in labels[chosen]})
    if len(found) < 2:
        raise ValueError(
            f"{name} has two or more cells of {', '.join(found) or 'no type'} only, of the types "
            f"that the model knows ({', '.join(names)}). Scores are compared between types, so "
            "two are needed: give cells of more types, or the column of their labels."
        )
    return Question(
        name, source, bundle, network, store, rows[chosen], labels[chosen], device, notes
    )


def _draw(labels: np.ndarray, settings: Explain) -> np.ndarray:
    """Return at most so many cells of each type that has two or more, ascending."""
    rng = np.random.default_rng(settings.seed)
    drawn = [np.zeros(0, dtype=np.int64)]
    for number in range(labels.max(initial=-1) + 1):
        own = rng.permutation(np.flatnonzero(labels == number))
        drawn.append(own[: settings.cells_per_type] if len(own) > 1 else own[:0])
    return np.sort(np.concatenate(drawn))


def _bins(question: Question) -> np.ndarray:
    """Return the bins of the cells, shape (cells, vocabulary)."""
    bins_NV = np.zeros((len(question.rows), question.store.measured.shape[1]), dtype=np.uint8)
    for place, row in enumerate(question.rows):
        genes, bins = question.store.tokens(row)
        bins_NV[place, genes] = bins
    return bins_NV


def _weights(bundle: Bundle, present: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights of the bundle's logistic regression; bundles of format 2 have none."""
    linear = getattr(bundle, "linear", None)
    return {} if linear is None else {"logistic_regression": linear.weight_CV[present]}


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
