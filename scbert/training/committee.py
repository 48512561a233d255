"""Answers of a model's network, run in batches, and of its experts, asked together.

The expert `encoder` reads the frozen encoder's cell vectors beside the tokens; where the network
was trained with a head of its own, as in the paper, it is that head that answers.

Shape letters: B cells in a mini-batch, N cells, C cell types, D width of the cell vector.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from scbert.config import Precision
from scbert.experts.combiner import Share, combine
from scbert.experts.linear import LinearExpert, expression_of
from scbert.network.model import CellTypeModel, MaskedExpressionModel, MeanOfGenes
from scbert.training.cell_batches import CellBatches
from scbert.training.components import Components
from scbert.training.devices import autocast
from scbert.training.mini_batch import MiniBatch, Prefetched

ENCODER = "encoder"


@dataclass(frozen=True)
class Outputs:
    """Output of a model for cells, float32, in the order that was asked for.

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

    `done` is called with the number of finished cells, for a progress bar. No positions are given.
    """
    model.eval()
    order, parts = [], []

    def make(some: np.ndarray) -> MiniBatch:
        return cells.make(some).bound_for(device)

    plan = cells.plan(rows, None)
    # From short to long they would take ever longer, and the time left would be far too short.
    mixed = [plan[number] for number in np.random.default_rng(0).permutation(len(plan))]
    with autocast(device, precision), Prefetched(make, mixed) as batches:
        for batch in batches:
            parts.append(_of_batch(model, batch.to(device)))
            order.append(batch.rows)
            done(len(batch.rows))
    made = np.concatenate(order)
    # Batches come mixed: where each row that was asked for lies among them.
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


def _of_batch(model: nn.Module, batch: MiniBatch) -> dict[str, np.ndarray]:
    logits_BC, vectors_BD = model(batch.genes_BG, batch.tokens_BG, batch.real_BG, batch.packing)
    found = {"logits": logits_BC, "vectors": vectors_BD}
    return {name: tensor.float().cpu().numpy() for name, tensor in found.items()}


@dataclass(frozen=True)
class Committee:
    """What experts a model has, and how much each has to say, by name."""

    experts: Mapping[str, LinearExpert]
    shares: Mapping[str, Share]

    @property
    def asks_encoder(self) -> bool:
        """Whether the network must run: it takes nearly all of the time."""
        return ENCODER in self.shares and self.shares[ENCODER].weight > 0

    def runs_network(self, *, all_experts: bool) -> bool:
        """Whether it runs, too, if all experts that there are are to be asked."""
        return self.asks_encoder or (all_experts and ENCODER in self.shares)


def network_of(model: MaskedExpressionModel | CellTypeModel) -> CellTypeModel | MeanOfGenes:
    """Return what gives a cell's vector and, if it was trained with a head, its logits."""
    return model if isinstance(model, CellTypeModel) else MeanOfGenes(model.encoder)


def ask(  # noqa: PLR0913  who, of which cells, where, and how
    committee: Committee,
    network: nn.Module,
    cells: CellBatches,
    rows: np.ndarray,
    device: torch.device,
    done: Callable[[int], object] = lambda n: None,
    *,
    components: Components | None = None,
    precision: Precision = "auto",
    all_experts: bool = False,
) -> Outputs:
    """Ask every expert that has a weight, and each that costs nothing, and combine the answers.

    Parameters
    ----------
    network
        Of `network_of`; it runs only if the encoder has a weight, or `all_experts` is asked for.
        Else the cells' positions among the principal components stand where its vectors would.
    done
        Called with the number of finished cells.
    """
    positions = np.zeros((len(rows), 0), dtype=np.float32)
    if components is not None:
        positions = components.positions(cells.store, rows)
    vectors, own = positions, None
    if committee.runs_network(all_experts=all_experts):
        found = outputs(network, cells, rows, device, done=done, precision=precision)
        vectors, own = found.vectors, found.logits
    else:
        done(len(rows))
    expression = expression_of(cells.store, rows)
    logits = {
        name: expert.logits(expression, vectors)
        for name, expert in committee.experts.items()
        if own is not None or not expert.reads_vectors
    }
    if own is not None and own.shape[1]:
        logits[ENCODER] = own
    joint = combine(logits, committee.shares).astype(np.float32)
    return Outputs(joint, vectors, positions, logits)
