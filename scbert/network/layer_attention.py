"""Attention of a layer, in numbers: measured in the network, read again without it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerAttention:
    """How a layer attends; `layer` counts from 1.

    `at_floor` is the share of key features whose exponential is at most epsilon, None for exact
    attention; `collapsed`, whether it is above 0.9. `from_uniform` and `from_softmax` are the total
    variation (0 to 1) between a query's attention and equal attention, or exact softmax attention;
    `least_from_uniform` and `most_from_uniform` the means of the two most extreme heads.
    """

    layer: int
    at_floor: float | None
    collapsed: bool
    from_uniform: float
    from_softmax: float
    least_from_uniform: float
    most_from_uniform: float
