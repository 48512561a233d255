"""Choice of the cells to explain, and their labels."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from scbert.calibration.confidence import softmax
from scbert.config import Explain
from scbert.experts.linear import expression_of
from scbert.explain.attributions import store_without
from scbert.network.model import CellTypeModel, MeanOfGenes
from scbert.tokens.store import TokenStore
from scbert.training.cell_batches import CellBatches
from scbert.training.committee import ask as ask_experts
from scbert.training.committee import network_of
from scbert.training.saved_model import FinetunedModel

NO_TYPE = -1  # that the model knows


@dataclass(frozen=True)
class Candidates:
    """Cells to choose from: rows of a store; errors call them by `name`.

    `labels`, text (cells of rows,), says what they are called; None: what the model calls them.
    """

    name: str
    store: TokenStore
    rows: np.ndarray
    labels: np.ndarray | None = None

    def measured(self) -> np.ndarray:
        """Return which genes were measured in all of the cells, bool (vocabulary,)."""
        return self.store.measured[np.unique(self.store.sample[self.rows])].all(axis=0)


@dataclass(frozen=True)
class ChosenCells:
    """Cells whose labels are to be explained.

    `labels` has shape (cells,): what each cell of `rows` is called, a number among the model's.
    """

    name: str
    labels_from: str
    model: FinetunedModel
    network: CellTypeModel | MeanOfGenes
    store: TokenStore
    rows: np.ndarray
    labels: np.ndarray
    device: torch.device
    notes: list[str] = field(default_factory=list)
    warnings: dict[str, str] = field(default_factory=dict)

    def batches(self, store: TokenStore, tokens_per_batch: int) -> CellBatches:
        """Return the cells of a store as the network takes them."""
        config = self.model.config
        return CellBatches(
            store,
            sequence=config["sequence"],
            n_bins=config["n_bins"],
            tokens_per_batch=tokens_per_batch,
            genes=self.model.used,
        )

    def probabilities(self, store: TokenStore, rows: np.ndarray) -> np.ndarray:
        """Return the calibrated probability of each type, shape (cells, types)."""
        cells = self.batches(store, self.model.config["annotate"]["tokens_per_batch"])
        found = ask_experts(self.model.committee, self.network, cells, rows, device=self.device)
        return softmax(found.logits, self.model.calibration["temperature"])

    def expression(self) -> np.ndarray:
        """Return the expression of the cells' tokens, float32, shape (cells, vocabulary)."""
        return expression_of(self.store, self.rows).toarray()


def choose_cells(
    candidates: Candidates, model: FinetunedModel, settings: Explain, device: torch.device
) -> ChosenCells:
    """Draw cells of each type, by the labels that are given or else by the model's.

    Raises
    ------
    ValueError
        If fewer than two types have two cells.
    """
    model, rows = model.adapted(candidates.measured()), np.arange(len(candidates.rows))
    every = ChosenCells(
        name=candidates.name,
        labels_from="labels of the model" if candidates.labels is None else "labels of the file",
        model=model,
        network=network_of(model.network).to(device).eval(),
        store=_learned_only(model, candidates),
        rows=rows,
        labels=np.full(len(rows), NO_TYPE),
        device=device,
    )
    labels = _number_of_type(every, candidates.labels)
    drawn = _draw(labels, settings)
    _require_two_types(labels[drawn], model, candidates.name)
    notes = _left_out(labels, drawn, candidates.labels, model.types)
    return replace(every, rows=rows[drawn], labels=labels[drawn], notes=notes)


def _number_of_type(every: ChosenCells, given: np.ndarray | None) -> np.ndarray:
    """Return what each cell is called, a number among the model's types or NO_TYPE."""
    if given is None:
        return every.probabilities(every.store, every.rows).argmax(axis=1)
    return pd.Categorical(given, categories=every.model.types).codes.astype(np.int64)


def _require_two_types(labels: np.ndarray, model: FinetunedModel, name: str) -> None:
    found = sorted({model.types[number] for number in labels})
    if len(found) < 2:
        raise ValueError(
            f"{name} has two or more cells of {', '.join(found) or 'no type'} only, of the types "
            f"that the model knows ({', '.join(model.types)}). Scores are compared between types, "
            "so two are needed: give cells of more types, or the column of their labels."
        )


def _left_out(
    labels: np.ndarray, drawn: np.ndarray, given: np.ndarray | None, types: list[str]
) -> list[str]:
    """Say of which labels no cell was drawn, and why."""
    notes, strange = [], labels == NO_TYPE
    if given is not None and strange.any():
        names = sorted(set(given[strange]))
        notes.append(
            f"{strange.sum()} cells with labels that the model does not know were left out: "
            f"{', '.join(names[:5])}."
        )
    single = {*labels.tolist()} - {*labels[drawn].tolist(), NO_TYPE}
    if single:
        names = sorted(types[number] for number in single)
        notes.append(f"Types with a single cell were left out: {', '.join(names)}.")
    return notes


def _draw(labels: np.ndarray, settings: Explain) -> np.ndarray:
    """Return at most so many cells of each type that has two or more, ascending."""
    rng = np.random.default_rng(settings.seed)
    drawn = [np.zeros(0, dtype=np.int64)]
    for number in range(labels.max(initial=-1) + 1):
        own = rng.permutation(np.flatnonzero(labels == number))
        drawn.append(own[: settings.cells_per_type] if len(own) > 1 else own[:0])
    return np.sort(np.concatenate(drawn))


def _learned_only(model: FinetunedModel, candidates: Candidates) -> TokenStore:
    """Hold these cells in memory, with the genes that the model has learned from.

    The others change nothing: as random genes they would make every ranking look good.
    """
    learned, store, rows = model.learned, candidates.store, candidates.rows.tolist()
    kept = store_without(store, rows, [np.flatnonzero(~learned)] * len(rows))
    return replace(kept, measured=store.measured & learned)
