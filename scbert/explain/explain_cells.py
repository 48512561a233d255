"""Chosen cells + a fine-tuned model -> genes that speak for each type, and whether they do.

Nothing here chooses a model, a setting or a threshold: cells are explained, not learnt from.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from scbert.config import Explain
from scbert.experts.linear import LinearExpert
from scbert.explain.attributions import attention_of_cells, gradients_of_cells, store_without
from scbert.explain.chosen_cells import ChosenCells
from scbert.explain.deletion import falls, halves, judge_deletions, plan_removals
from scbert.explain.enrichment import MarkersAndSets
from scbert.explain.explanation import Explanation
from scbert.explain.rankings import (
    Ranking,
    considered_genes,
    means_where_given,
    rank_types,
    type_means,
)
from scbert.network.model import CellTypeModel, MeanOfGenes
from scbert.training.batches import CellBatches
from scbert.training.committee import ENCODER
from scbert.training.saved_model import FinetunedModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Measured:
    """What each method says of each gene, and the type of each cell, `code`, 0 to n_types - 1.

    `expression_NV`, `gradients_NV` and `attention_NV` are of each cell; `weights` of each type.
    """

    expression_NV: np.ndarray
    gradients_NV: np.ndarray
    attention_NV: np.ndarray
    weights: dict[str, np.ndarray]
    code: np.ndarray
    n_types: int

    def rank(self, of: np.ndarray, min_expressed: float) -> dict[str, Ranking]:
        """Rank by a part of the cells, bool (cells,)."""
        expression_NV, attention_NV = self.expression_NV[of], self.attention_NV[of]
        code, n_types = self.code[of], self.n_types
        considered = considered_genes(expression_NV, code, n_types, min_expressed)
        contribution = type_means(self.gradients_NV[of], code, n_types)
        scores = {
            "gradients": contribution,
            "gradients_mean": contribution,
            "attention": means_where_given(
                attention_NV, attention_NV > 0, code, n_types, neutral=1.0
            ),
            "expression": type_means(expression_NV, code, n_types),
        }
        return {
            method: rank_types(method, score, considered)
            for method, score in (scores | self.weights).items()
        }


def explain_cells(
    chosen_cells: ChosenCells, known: MarkersAndSets, settings: Explain
) -> Explanation:
    """Rank the genes of each type by every method, and test each ranking by deletion."""
    present, code = np.unique(chosen_cells.labels, return_inverse=True)
    types = [chosen_cells.model.types[number] for number in present]
    log.info("%s: explaining %d cells of %d types", chosen_cells.name, len(code), len(types))
    expression_NV = chosen_cells.expression()
    cells = chosen_cells.batches(chosen_cells.store, settings.tokens_per_batch)
    gradients, missed = _gradients(chosen_cells, cells, expression_NV, settings.steps)
    attention = attention_of_cells(
        chosen_cells.network, cells, chosen_cells.rows, chosen_cells.device
    )
    measured = _Measured(
        expression_NV, gradients, attention, _weights(chosen_cells.model, present), code, len(types)
    )
    half = halves(code)
    ranks = {
        (method, tested): one.rank
        for tested in (0, 1)
        for method, one in measured.rank(half != tested, settings.min_expressed).items()
    }
    judged = _test(chosen_cells, ranks, code, half, [types[number] for number in code], settings)
    everything = np.ones(len(code), dtype=bool)
    return Explanation(
        name=chosen_cells.name,
        labels_from=chosen_cells.labels_from,
        model=chosen_cells.model,
        types=types,
        cells=np.bincount(code).tolist(),
        rankings=list(measured.rank(everything, settings.min_expressed).values()),
        missed=missed,
        judged=judged,
        known=known,
        settings=settings,
        notes=chosen_cells.notes,
        warnings=chosen_cells.warnings,
    )


def _weights(model: FinetunedModel, present: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights of the model's logistic regression, if that is one of its experts."""
    regression = model.experts.get("logistic_regression")
    return {} if regression is None else {"logistic_regression": regression.weight_CV[present]}


def _gradients(
    chosen_cells: ChosenCells, cells: CellBatches, expression_NV: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what each gene adds to the answer of the experts together, shape (cells, vocabulary).

    What they read in the tokens themselves is linear, so weight times expression is exact; what the
    encoder tells them is integrated. Also returned is what that lacks to add up, (cells,).
    """
    committee, labels = chosen_cells.model.committee, chosen_cells.labels
    added_NV = np.zeros(expression_NV.shape)
    for name, expert in committee.experts.items():
        share = committee.shares[name]
        added_NV += share.weight / share.temperature * expert.weight_CV[labels] * expression_NV
    if not committee.asks_encoder:
        return added_NV, np.zeros(len(labels))
    share = committee.shares[ENCODER]
    network = read_by(chosen_cells.network, committee.experts.get(ENCODER))
    gradients_NV, missed_N = gradients_of_cells(
        network.to(chosen_cells.device),
        cells,
        chosen_cells.rows,
        labels,
        steps=steps,
        device=chosen_cells.device,
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
    chosen_cells: ChosenCells,
    ranks: dict[tuple[str, int], np.ndarray],
    code: np.ndarray,
    half: np.ndarray,
    types: Sequence[str],
    settings: Explain,
) -> pd.DataFrame:
    """Remove genes, ask the model again, and judge."""
    tokens = [chosen_cells.store.tokens(row) for row in chosen_cells.rows]
    plan = plan_removals(tokens, code, half, ranks, settings)
    if plan.empty:
        raise ValueError(
            f"no cell of {chosen_cells.name} expresses {2 * min(settings.deletions)} genes, so "
            "none can be removed and compared. Give cells with more genes, or smaller deletions."
        )
    cell = plan.cell.to_numpy()
    before = chosen_cells.probabilities(chosen_cells.store, chosen_cells.rows)
    store = store_without(chosen_cells.store, chosen_cells.rows[cell], plan.genes.tolist())
    after = chosen_cells.probabilities(store, np.arange(len(plan)))
    label = chosen_cells.labels[cell]
    fall = before[cell, label] - after[np.arange(len(plan)), label]
    return judge_deletions(falls(plan, fall, types), settings)
