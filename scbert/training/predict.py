"""Run a cell-type model over cells, in batches of similar length; the order of cells is kept."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from scbert.config import Precision
from scbert.training.batches import CellBatches
from scbert.training.devices import autocast
from scbert.training.mini_batch import MiniBatch, Prefetched


@dataclass(frozen=True)
class Outputs:
    """What a model says of cells, float32, in the order that was asked for.

    `logits` has shape (cells, types), `vectors` (cells, width); `positions`: see `CellOutputs`.
    `experts` has the logits of each expert that was asked, see `Committee`; of a network alone it
    is empty.
    """

    logits: np.ndarray
    vectors: np.ndarray
    positions: np.ndarray
    experts: dict[str, np.ndarray]


@torch.no_grad()
def outputs(
    model: nn.Module,
    cells: CellBatches,
    rows: np.ndarray,
    device: torch.device,
    done: Callable[[int], object] = lambda n: None,
    *,
    precision: Precision = "auto",
) -> Outputs:
    """Run a model, one that is called as CellTypeModel is, over cells.

    `done` is told how many cells were finished, for a progress bar. No positions are given.
    """
    model.eval()
    order, parts = [], []

    def make(some: np.ndarray) -> MiniBatch:
        return cells.make(some).bound_for(device)

    with autocast(device, precision), Prefetched(make, cells.plan(rows, None)) as batches:
        for batch in batches:
            parts.append(_of_batch(model, batch.to(device)))
            order.append(batch.rows)
            done(len(batch.rows))
    made = np.concatenate(order)
    # Batches come by length: where each row that was asked for lies among them.
    back = np.argsort(made)[np.searchsorted(np.sort(made), rows)]
    found = {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}
    return Outputs(
        found["logits"], found["vectors"], np.zeros((len(rows), 0), dtype=np.float32), {}
    )


def joined_outputs(parts: list[Outputs]) -> Outputs:
    """Put what was said of several parts of the cells one after the other."""
    return Outputs(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.positions for part in parts]),
        {name: np.concatenate([part.experts[name] for part in parts]) for name in parts[0].experts},
    )


def predict(
    model: nn.Module,
    cells: CellBatches,
    rows: np.ndarray,
    device: torch.device,
    done: Callable[[int], object] = lambda n: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and cell vectors alone, see `outputs`."""
    found = outputs(model, cells, rows, device, done)
    return found.logits, found.vectors


def _of_batch(model: nn.Module, batch: MiniBatch) -> dict[str, np.ndarray]:
    logits_BC, vectors_BD = model(batch.genes_BG, batch.tokens_BG, batch.real_BG, batch.packing)
    found = {"logits": logits_BC, "vectors": vectors_BD}
    return {name: tensor.float().cpu().numpy() for name, tensor in found.items()}
