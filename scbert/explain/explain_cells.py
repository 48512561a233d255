"""Chosen cells + a fine-tuned model -> genes that it relies on for each type, and a test of that.

Nothing here chooses a model, a setting or a threshold: cells are explained, not learnt from.
"""

import logging
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
from scbert.training.cell_batches import CellBatches
from scbert.training.committee import ENCODER
from scbert.training.saved_model import FinetunedModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Measured:
    """Each method's value of each gene, and the type of each cell: `code`, a number in `types`.

    `expression_NV`, `gradients_NV` and `attention_NV` are of each cell; `missed_N` is what its
    gradients lack to add up; `weights` are of each type.
    """

    types: list[str]
    code: np.ndarray
    expression_NV: np.ndarray
    gradients_NV: np.ndarray
    missed_N: np.ndarray
    attention_NV: np.ndarray
    weights: dict[str, np.ndarray]

    def rank(self, of: np.ndarray, min_expressed: float) -> dict[str, Ranking]:
        """Rank by a part of the cells, bool (cells,)."""
        expression_NV, attention_NV = self.expression_NV[of], self.attention_NV[of]
        code, n_types = self.code[of], len(self.types)
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
    measured = _measure(chosen_cells, settings)
    everything = np.ones(len(measured.code), dtype=bool)
    return Explanation(
        name=chosen_cells.name,
        labels_from=chosen_cells.labels_from,
        model=chosen_cells.model,
        types=measured.types,
        cells=np.bincount(measured.code).tolist(),
        rankings=list(measured.rank(everything, settings.min_expressed).values()),
        missed=measured.missed_N,
        judged=_test(chosen_cells, measured, settings),
        known=known,
        settings=settings,
        notes=chosen_cells.notes,
        warnings=chosen_cells.warnings,
    )


def _measure(chosen_cells: ChosenCells, settings: Explain) -> _Measured:
    """Ask the model, and methods without one, what each gene is to each cell."""
    present, code = np.unique(chosen_cells.labels, return_inverse=True)
    types = [chosen_cells.model.types[number] for number in present]
    log.info("%s: explaining %d cells of %d types", chosen_cells.name, len(code), len(types))
    expression_NV = chosen_cells.expression()
    cells = chosen_cells.batches(chosen_cells.store, settings.tokens_per_batch)
    gradients_NV, missed_N = _gradients(chosen_cells, cells, expression_NV, settings.steps)
    network, rows = chosen_cells.network, chosen_cells.rows
    return _Measured(
        types=types,
        code=code,
        expression_NV=expression_NV,
        gradients_NV=gradients_NV,
        missed_N=missed_N,
        attention_NV=attention_of_cells(network, cells, rows, chosen_cells.device),
        weights=_weights(chosen_cells.model, present),
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


def _test(chosen_cells: ChosenCells, measured: _Measured, settings: Explain) -> pd.DataFrame:
    """Remove genes that the other half of the cells ranks high, ask the model again, and judge."""
    code, half = measured.code, halves(measured.code)
    ranks = {
        (method, tested): one.rank
        for tested in (0, 1)
        for method, one in measured.rank(half != tested, settings.min_expressed).items()
    }
    tokens = [chosen_cells.store.tokens(row) for row in chosen_cells.rows]
    plan = plan_removals(tokens, code, half, ranks, settings=settings)
    if plan.empty:
        raise ValueError(
            f"no cell of {chosen_cells.name} expresses {2 * min(settings.deletions)} genes, so "
            "none can be removed and compared. Give cells with more genes, or smaller deletions."
        )
    fall = _fall(chosen_cells, plan)
    return judge_deletions(falls(plan, fall, [measured.types[one] for one in code]), settings)


def _fall(chosen_cells: ChosenCells, plan: pd.DataFrame) -> np.ndarray:
    """Return how far each removal lowers the probability of the cell's label, (removals,)."""
    cell, removals = plan.cell.to_numpy(), np.arange(len(plan))
    before = chosen_cells.probabilities(chosen_cells.store, chosen_cells.rows)
    store = store_without(chosen_cells.store, chosen_cells.rows[cell], plan.genes.tolist())
    after = chosen_cells.probabilities(store, removals)
    label = chosen_cells.labels[cell]
    return before[cell, label] - after[removals, label]
