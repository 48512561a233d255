"""Run a cell-type model over cells, in batches of similar length; the order of cells is kept."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from scbert.config import Precision
from scbert.evidence.novelty import CellOutputs
from scbert.network.heads import HybridHead
from scbert.network.model import CellTypeModel
from scbert.training.batches import CellBatches
from scbert.training.components import Components
from scbert.training.devices import autocast
from scbert.training.mini_batch import MiniBatch
from scbert.training.prefetch import Prefetched


@dataclass(frozen=True)
class Outputs(CellOutputs):
    """What a model says of cells, float32, in the order that was asked for.

    `halves` has the logits of each half of a hybrid head, expression and encoder, which add up to
    `logits`; else it is empty.
    """

    halves: dict[str, np.ndarray]


@torch.no_grad()
def outputs(  # noqa: PLR0913  what, of which cells, where, and how
    model: nn.Module,
    cells: CellBatches,
    rows: np.ndarray,
    device: torch.device,
    done: Callable[[int], object] = lambda n: None,
    *,
    components: Components | None = None,
    precision: Precision = "auto",
) -> Outputs:
    """Run a model, one that is called as CellTypeModel is, over cells.

    `done` is told how many cells were finished, for a progress bar; `components` give positions.
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
    back = np.argsort(made)[np.searchsorted(np.sort(made), rows)]
    found = {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}
    positions = np.zeros((len(rows), 0), dtype=np.float32)
    if components is not None:
        positions = components.positions(cells.store, rows)
    return Outputs(found.pop("logits"), found.pop("vectors"), positions, found)


def joined_outputs(parts: list[Outputs]) -> Outputs:
    """Put what was said of several parts of the cells one after the other."""
    return Outputs(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.positions for part in parts]),
        {half: np.concatenate([part.halves[half] for part in parts]) for half in parts[0].halves},
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
    given = (batch.genes_BG, batch.tokens_BG, batch.real_BG)
    if isinstance(model, CellTypeModel) and isinstance(model.head, HybridHead):
        halves, vectors_BD = model.halves(*given, batch.packing)
        found = {**halves, "logits": model.head.joined(halves), "vectors": vectors_BD}
    else:
        logits_BC, vectors_BD = model(*given, batch.packing)
        found = {"logits": logits_BC, "vectors": vectors_BD}
    return {name: tensor.float().cpu().numpy() for name, tensor in found.items()}
