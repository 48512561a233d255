"""What FAVOR+ attends by, spelled out: the features of queries and keys, and each layer's input.

For looking into a trained network (attention sums, diagnostics), a slice of genes or a head at a
time. The forward pass has its own way of computing the same; the tests hold one against the other.
Source: Choromanski et al. 2021, section 2.

Shape letters: B cells, H heads, G genes, E width of a head, M random features, D width of a gene.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from scbert.network.attention import EPSILON, ExactAttention, PerformerAttention
from scbert.network.model import Encoder

Look = Callable[[PerformerAttention | ExactAttention, Tensor, Tensor], Tensor]


@torch.no_grad()
def look_into_layers(
    encoder: Encoder, genes_BG: Tensor, tokens_BG: Tensor, real_BG: Tensor, look: Look
) -> list[Tensor]:
    """Run the encoder and return what `look` makes of each layer's attention, queries and keys.

    Queries and keys have shape (B, H, G, E) and come from the layer's own input: the original took
    the input of the next one.
    """
    found: list[Tensor] = []

    def before(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x_BGD = inputs[0]
        q_BHGE, k_BHGE = (
            cast(nn.Module, project)(x_BGD).unflatten(-1, (block.heads, -1)).transpose(1, 2)
            for project in (block.to_q, block.to_k)
        )
        attention = cast(PerformerAttention | ExactAttention, block.fast_attention)
        found.append(look(attention, q_BHGE, k_BHGE))

    layers = encoder.performer.net.layers
    hooks = [attention.fn.register_forward_pre_hook(before) for attention, _ in layers]
    try:
        encoder(genes_BG, tokens_BG, real_BG)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(found) == len(layers), "a layer was not called as a module"
    return found


def exponents(x_BHGE: Tensor, projection_ME: Tensor) -> tuple[Tensor, Tensor]:
    """Return w·x', shape (B, H, G, M), and |x'|²/2, (B, H, G, 1), for x' = x / E^(1/4)."""
    scaled = x_BHGE * x_BHGE.shape[-1] ** -0.25
    dash_BHGM = scaled @ projection_ME.to(scaled.dtype).T
    return dash_BHGM, scaled.square().sum(dim=-1, keepdim=True) / 2


def query_features(q_BHGE: Tensor, projection_ME: Tensor) -> Tensor:
    """Return the features of queries, shape (B, H, G, M)."""
    dash_BHGM, half_norm_BHG1 = exponents(q_BHGE, projection_ME)
    highest_BHG1 = dash_BHGM.amax(dim=-1, keepdim=True)
    return torch.exp(dash_BHGM - half_norm_BHG1 - highest_BHG1) + EPSILON


def key_stabilizer(
    k_BHGE: Tensor, real_BG: Tensor, attention: PerformerAttention, chunk: int
) -> Tensor:
    """Return what is subtracted from the exponents of keys, shape (B, H, 1, 1)."""
    highest_BH11 = k_BHGE.new_full((*k_BHGE.shape[:2], 1, 1), -torch.inf)
    for genes in slices(k_BHGE.shape[2], chunk):
        dash_BHGM, _ = exponents(k_BHGE[:, :, genes], attention.projection_ME)
        dash_BHGM.masked_fill_(~real_BG[:, None, genes, None], -torch.inf)
        highest_BH11 = torch.maximum(highest_BH11, dash_BHGM.amax(dim=(2, 3), keepdim=True))
    if attention.stabilizer == "cell":
        highest_BH11 = highest_BH11.amax(dim=1, keepdim=True).expand_as(highest_BH11)
    return highest_BH11.nan_to_num(neginf=0.0)  # a cell without any real gene


def key_features(
    k_BHGE: Tensor, real_BG: Tensor, projection_ME: Tensor, highest_BH11: Tensor
) -> Tensor:
    """Return the features of keys, shape (B, H, G, M); zero for padding."""
    dash_BHGM, half_norm_BHG1 = exponents(k_BHGE, projection_ME)
    features = torch.exp(dash_BHGM - half_norm_BHG1 - highest_BH11) + EPSILON
    return features.masked_fill(~real_BG[:, None, :, None], 0.0)  # not 0 *: it may be infinite


def slices(length: int, chunk: int) -> list[slice]:
    """Cut 0 to `length` into slices of at most `chunk`."""
    return [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]
