"""Number of floating-point operations of the network, by its settings and the cells' lengths.

Those of matrix products in the encoder, two for a multiplication and an addition. What an
implementation computes a second time to save memory is not needed and not counted, so that a speed
in these units tells implementations apart (PaLM, Chowdhery et al. 2022, appendix B: model FLOPs);
nor are sums, exponentials, and the layers after the encoder.

Shape letters: D width of a gene, H heads, E width of a head, M random features, C cells.
"""

from dataclasses import dataclass

import numpy as np
from torch import nn

from scbert.config import Network
from scbert.network.model import Encoder


@dataclass(frozen=True)
class Passes:
    """How often a step takes the products of a layer, those with weights and those of attention.

    A backward pass takes each twice, for the gradients of its two factors.
    """

    weights: float
    attention: float


FORWARD, THROUGH, TRAINING = Passes(1, 1), Passes(2, 3), Passes(3, 3)  # THROUGH: frozen weights


def step_flop(settings: Network, lengths: np.ndarray, passes: Passes = TRAINING) -> float:
    """Return what the encoder needs for some cells.

    Parameters
    ----------
    lengths
        The number of tokens of each cell, padding not counted.
    passes
        FORWARD, TRAINING, or what `passes_of` says.
    """
    length_C = lengths.astype(np.float64)
    width = settings.heads * settings.dim_head
    weights = 4 * settings.dim * width + 2 * settings.ff_mult * settings.dim**2
    flop = 2 * passes.weights * weights * length_C.sum()
    if settings.attention == "exact":
        flop += 4 * passes.attention * width * (length_C @ length_C)
    else:  # [v, 1] are added up for each feature, and handed out; a projection has no gradient
        sums = passes.attention * settings.heads * (settings.dim_head + 1)
        exponents = (passes.attention + 1) / 2 * width
        flop += 4 * settings.n_features * (sums + exponents) * length_C.sum()
    return float(settings.depth * flop)


def passes_of(encoder: Encoder) -> Passes:
    """Return the passes of a training step, the mean over the layers: some may be frozen."""
    below = _is_trained(encoder.token) or _is_trained(encoder.gene)
    passes = []
    for layer in encoder.performer.net.layers:
        trained = _is_trained(layer)
        passes.append(TRAINING if trained else THROUGH if below else FORWARD)
        below |= trained
    return Passes(
        sum(each.weights for each in passes) / len(passes),
        sum(each.attention for each in passes) / len(passes),
    )


def _is_trained(module: nn.Module) -> bool:
    return any(weight.requires_grad for weight in module.parameters())
