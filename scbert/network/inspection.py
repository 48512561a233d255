"""Attention inside a trained network: the input of each layer, and the features of its genes.

For looking into it (attention sums, diagnostics), a slice of genes at a time.
Source: Choromanski et al. 2021, section 2.

Shape letters: B cells, H heads, G genes, E width of a head, M random features, D width of a gene.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from scbert.network.attention import ExactAttention, PerformerAttention
from scbert.network.favor import FEATURES_ELSEWHERE
from scbert.network.model import Encoder
from scbert.network.random_features import (
    EPSILON,
    exp_of_keys,
    exp_of_more_keys,
    exp_of_queries,
    exponents,
    with_rms,
)

GENES_ON_CPU = 64  # at a time: the features of 10 heads, 0.7 MB, stay in the cache
Look = Callable[[PerformerAttention | ExactAttention, Tensor, Tensor], Tensor]


@torch.no_grad()
def look_into_layers(
    encoder: Encoder, genes_BG: Tensor, tokens_BG: Tensor, real_BG: Tensor, look: Look
) -> list[Tensor]:
    """Run the encoder and return what `look` makes of each layer's attention, queries and keys.

    Queries and keys have shape (B, H, G, E), are scaled as the attention scales them, and come from
    the layer's own input: the original took the input of the next one.
    """
    found: list[Tensor] = []

    def before(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x_BGD = inputs[0]
        attention = cast(PerformerAttention | ExactAttention, block.fast_attention)
        q_BHGE, k_BHGE = (
            cast(nn.Module, project)(x_BGD).unflatten(-1, (block.heads, -1)).transpose(1, 2)
            for project in (block.to_q, block.to_k)
        )
        rms = attention.qk_rms
        found.append(look(attention, with_rms(q_BHGE, rms), with_rms(k_BHGE, rms)))

    layers = encoder.performer.net.layers
    hooks = [attention.fn.register_forward_pre_hook(before) for attention, _ in layers]
    try:
        encoder(genes_BG, tokens_BG, real_BG)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(found) == len(layers), "a layer was not called as a module"
    return found


def query_features(q_BHGE: Tensor, projection_ME: Tensor) -> Tensor:
    """Return the features of queries, shape (B, H, G, M)."""
    down_EM, memory = _room(q_BHGE, projection_ME)
    return exp_of_queries(q_BHGE.contiguous(), down_EM, memory).add_(EPSILON)


def sum_of_keys(
    k_BHGE: Tensor, real_BG: Tensor, attention: PerformerAttention, chunk: int
) -> tuple[Tensor, Tensor]:
    """Return the sum of the features of real keys, (B, H, M), and their stabilizer, (B, H, 1, 1).

    The stabilizer is what is subtracted from exponents, their highest.
    """
    n_cells, n_heads = k_BHGE.shape[:2]
    lowest = torch.finfo(k_BHGE.dtype).min
    highest_BH11 = k_BHGE.new_full((n_cells, n_heads, 1, 1), lowest)
    sum_BHM = k_BHGE.new_zeros(n_cells, n_heads, len(attention.projection_ME))
    per_cell = attention.stabilizer == "cell"
    for genes in slices(k_BHGE.shape[2], chunk):
        k_BHCE, real_BC = k_BHGE[:, :, genes].contiguous(), real_BG[:, genes]
        found = exponents(k_BHCE, *_room(k_BHCE, attention.projection_ME))
        phi_BHCM, highest_BH11, shrink_BH11 = exp_of_more_keys(
            found, real_BC, highest_BH11, per_cell=per_cell
        )
        sum_BHM.mul_(shrink_BH11.flatten(2)).add_(phi_BHCM.sum(dim=2))
    floor_B11 = EPSILON * real_BG.sum(dim=1).to(sum_BHM.dtype)[:, None, None]
    return sum_BHM + floor_B11, highest_BH11.masked_fill(highest_BH11 == lowest, 0.0)


def key_features(
    k_BHGE: Tensor, real_BG: Tensor, projection_ME: Tensor, highest_BH11: Tensor
) -> Tensor:
    """Return the features of keys, shape (B, H, G, M); those of padding are at the floor."""
    dash_BHGM, half_norm_BHG1 = exponents(k_BHGE.contiguous(), *_room(k_BHGE, projection_ME))
    return exp_of_keys(dash_BHGM, half_norm_BHG1, real_BG, highest_BH11).add_(EPSILON)


def _room(x_BHGE: Tensor, projection_ME: Tensor) -> tuple[Tensor, Tensor]:
    """Return the projection as the features take it, and memory for them."""
    down_EM = projection_ME.to(x_BHGE.dtype).T * x_BHGE.shape[-1] ** -0.25
    return down_EM, x_BHGE.new_empty(x_BHGE[..., 0].numel() * len(projection_ME))


def genes_at_once(attention: PerformerAttention | ExactAttention, x_BHGE: Tensor) -> int:
    """Return how many genes of each cell are looked at together; changes speed and memory only.

    Each takes its features, or its scores with all genes. A GPU wants few large kernels.
    """
    n_cells, n_heads, n_genes, _ = x_BHGE.shape
    if isinstance(attention, ExactAttention):
        on_cpu, numbers = max(1, GENES_ON_CPU // n_heads), n_genes
    else:
        on_cpu, numbers = GENES_ON_CPU, len(attention.projection_ME)
    if x_BHGE.device.type == "cpu":
        return on_cpu
    return max(1, FEATURES_ELSEWHERE // max(1, n_cells * n_heads * numbers))


def slices(length: int, chunk: int) -> list[slice]:
    """Cut 0 to `length` into slices of at most `chunk`."""
    return [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]
