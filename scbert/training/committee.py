"""The experts of a fine-tuned model, asked together.

The expert `encoder` reads the frozen encoder's cell vectors beside the tokens; where the network
was trained with a head of its own, as in the paper, it is that head that answers.

Shape letters: N cells, C cell types, D width of the cell vector.
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
from scbert.training.batches import CellBatches
from scbert.training.components import Components
from scbert.training.predict import Outputs, outputs

ENCODER = "encoder"


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
        Is told how many cells were finished.
    """
    positions = np.zeros((len(rows), 0), dtype=np.float32)
    if components is not None:
        positions = components.positions(cells.store, rows)
    vectors, own = positions, None
    if committee.runs_network(all_experts=all_experts):
        found = outputs(network, cells, rows, device, done, precision=precision)
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
