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

from scbert.network.attention import ExactAttention, PerformerAttention
from scbert.network.features import EPSILON
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
    scaled = x_BHGE.contiguous() * x_BHGE.shape[-1] ** -0.25
    dash_BHGM = scaled @ projection_ME.to(scaled.dtype).T
    return dash_BHGM, scaled.square().sum(dim=-1, keepdim=True) / 2


def query_features(q_BHGE: Tensor, projection_ME: Tensor) -> Tensor:
    """Return the features of queries, shape (B, H, G, M)."""
    dash_BHGM, half_norm_BHG1 = exponents(q_BHGE, projection_ME)
    highest_BHG1 = dash_BHGM.amax(dim=-1, keepdim=True)
    return dash_BHGM.sub_(half_norm_BHG1 + highest_BHG1).exp_().add_(EPSILON)


def sum_of_keys(
    k_BHGE: Tensor, real_BG: Tensor, attention: PerformerAttention, chunk: int
) -> tuple[Tensor, Tensor]:
    """Return the sum of the features of real keys, (B, H, M), and their stabilizer, (B, H, 1, 1).

    The stabilizer is what is subtracted from exponents, their highest. In one pass: where a chunk
    holds a higher one, what was added up before is made smaller.
    """
    n_cells, n_heads = k_BHGE.shape[:2]
    lowest = torch.finfo(k_BHGE.dtype).min
    highest_BH11 = k_BHGE.new_full((n_cells, n_heads, 1, 1), lowest)
    sum_BHM = k_BHGE.new_zeros(n_cells, n_heads, len(attention.projection_ME))
    for genes in slices(k_BHGE.shape[2], chunk):
        dash_BHGM, half_norm_BHG1 = exponents(k_BHGE[:, :, genes], attention.projection_ME)
        padding_B1G1 = ~real_BG[:, None, genes, None]
        own_BH11 = dash_BHGM.amax(dim=-1, keepdim=True).masked_fill_(padding_B1G1, lowest)
        over = (1, 2) if attention.stabilizer == "cell" else (2,)
        higher_BH11 = torch.maximum(highest_BH11, own_BH11.amax(dim=over, keepdim=True))
        half_norm_BHG1.masked_fill_(padding_B1G1, torch.inf)
        sum_BHM *= torch.exp(highest_BH11 - higher_BH11).flatten(2)
        sum_BHM += dash_BHGM.sub_(half_norm_BHG1 + higher_BH11).exp_().sum(dim=2)
        highest_BH11 = higher_BH11
    floor_B11 = EPSILON * real_BG.sum(dim=1).to(sum_BHM.dtype)[:, None, None]
    return sum_BHM + floor_B11, highest_BH11.masked_fill(highest_BH11 == lowest, 0.0)


def key_features(
    k_BHGE: Tensor, real_BG: Tensor, projection_ME: Tensor, highest_BH11: Tensor
) -> Tensor:
    """Return the features of keys, shape (B, H, G, M); those of padding are at the floor."""
    dash_BHGM, half_norm_BHG1 = exponents(k_BHGE, projection_ME)
    half_norm_BHG1.masked_fill_(~real_BG[:, None, :, None], torch.inf)
    return dash_BHGM.sub_(half_norm_BHG1 + highest_BH11).exp_().add_(EPSILON)


def slices(length: int, chunk: int) -> list[slice]:
    """Cut 0 to `length` into slices of at most `chunk`."""
    return [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]
