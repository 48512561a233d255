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
from scbert.training.batches import CellBatches
from scbert.training.committee import ask as ask_experts
from scbert.training.committee import network_of
from scbert.training.saved_model import FinetunedModel


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
        used = self.model.used
        return CellBatches(store, config["sequence"], config["n_bins"], tokens_per_batch, used)

    def probabilities(self, store: TokenStore, rows: np.ndarray) -> np.ndarray:
        """Return the calibrated probability of each type, shape (cells, types)."""
        cells = self.batches(store, self.model.config["annotate"]["tokens_per_batch"])
        found = ask_experts(self.model.committee, self.network, cells, rows, self.device)
        return softmax(found.logits, self.model.calibration["temperature"])

    def expression(self) -> np.ndarray:
        """Return the expression of the cells' tokens, float32, shape (cells, vocabulary)."""
        return expression_of(self.store, self.rows).toarray()


def choose_cells(
    name: str,
    model: FinetunedModel,
    store: TokenStore,
    rows: np.ndarray,
    given: np.ndarray | None,
    settings: Explain,
    device: torch.device,
) -> ChosenCells:
    """Draw cells of each type, by the labels that are given or else by the model's.

    Parameters
    ----------
    given
        Labels, shape (cells of rows,), or None.

    Raises
    ------
    ValueError
        If fewer than two types have two cells.
    """
    model = model.adapted(store.measured[np.unique(store.sample[rows])].all(axis=0))
    store, rows = _learned_only(model, store, rows), np.arange(len(rows))
    names = model.types
    network = network_of(model.network).to(device).eval()
    source = "labels of the model" if given is None else "labels of the file"
    chosen_cells = ChosenCells(name, source, model, network, store, rows, rows, device)
    if given is None:
        labels = chosen_cells.probabilities(store, rows).argmax(axis=1)
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
    return ChosenCells(
        name, source, model, network, store, rows[chosen], labels[chosen], device, notes
    )


def _draw(labels: np.ndarray, settings: Explain) -> np.ndarray:
    """Return at most so many cells of each type that has two or more, ascending."""
    rng = np.random.default_rng(settings.seed)
    drawn = [np.zeros(0, dtype=np.int64)]
    for number in range(labels.max(initial=-1) + 1):
        own = rng.permutation(np.flatnonzero(labels == number))
        drawn.append(own[: settings.cells_per_type] if len(own) > 1 else own[:0])
    return np.sort(np.concatenate(drawn))


def _learned_only(model: FinetunedModel, store: TokenStore, rows: np.ndarray) -> TokenStore:
    """Hold these cells in memory, with the genes that the model has learned from.

    The others change nothing: as random genes they would make every ranking look good.
    """
    learned = model.learned
    kept = store_without(store, rows.tolist(), [np.flatnonzero(~learned)] * len(rows))
    return replace(kept, measured=store.measured & learned)
