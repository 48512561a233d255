"""Attention that each gene gets, summed over all genes that give it: no genes x genes matrix.

With A the attention of a head (rows sum to one), the sum over its L rows, divided by L, is
    a_j = 1/L sum_i  phi(q_i)·phi(k_j) / (phi(q_i)·S)
        = 1/L (sum_i phi(q_i) / (phi(q_i)·S)) · phi(k_j)
with S = sum_j phi(k_j): two small vectors per head, each a sum over genes.
Source: Yang et al. 2022, "summed the attention matrix along with columns"; the closed form is ours.

Shape letters: B cells, N layers, H heads, G genes, E width of a head, M random features.
"""

import torch
from torch import Tensor

from scbert.network.attention import ExactAttention, PerformerAttention
from scbert.network.inspection import (
    genes_at_once,
    key_features,
    look_into_layers,
    query_features,
    slices,
    sum_of_keys,
)
from scbert.network.model import Encoder


def attention_sums(
    encoder: Encoder, genes_BG: Tensor, tokens_BG: Tensor, real_BG: Tensor
) -> Tensor:
    """Return the mean attention that each gene gets, per cell, layer and head.

    Returns
    -------
    Shape (B, N, H, G). Over the genes of a cell each layer and head sums to 1; padding has 0, and
    so has everything in a cell without genes. The original's number is the mean over layers and
    heads.
    """

    def look(
        attention: PerformerAttention | ExactAttention, q_BHGE: Tensor, k_BHGE: Tensor
    ) -> Tensor:
        return sums_of_attention(attention, q_BHGE, k_BHGE, real_BG)

    layers = look_into_layers(encoder, genes_BG, tokens_BG, real_BG, look)
    return torch.stack(layers, dim=1)


@torch.no_grad()
def sums_of_attention(
    attention: PerformerAttention | ExactAttention,
    q_BHGE: Tensor,
    k_BHGE: Tensor,
    real_BG: Tensor,
    chunk: int | None = None,
) -> Tensor:
    """Return the column means of the attention matrices, shape (B, H, G).

    `chunk` genes at a time; None: as the device likes.
    """
    chunk = chunk or genes_at_once(attention, q_BHGE)
    if isinstance(attention, ExactAttention):
        sums_BHG = _exact(q_BHGE, k_BHGE, real_BG, chunk)
    else:
        sums_BHG = _favor(attention, q_BHGE, k_BHGE, real_BG, chunk)
    return sums_BHG / real_BG.sum(dim=1).clamp(min=1)[:, None, None]


def _favor(
    attention: PerformerAttention, q_BHGE: Tensor, k_BHGE: Tensor, real_BG: Tensor, chunk: int
) -> Tensor:
    w_ME = attention.projection_ME
    parts = slices(q_BHGE.shape[2], chunk)
    all_keys_BHM, highest_BH11 = sum_of_keys(k_BHGE, real_BG, attention, chunk)
    queries_BHM = torch.zeros_like(all_keys_BHM)

    def keys(genes: slice) -> Tensor:
        return key_features(k_BHGE[:, :, genes], real_BG[:, genes], w_ME, highest_BH11)

    for genes in parts:
        phi_BHGM = query_features(q_BHGE[:, :, genes], w_ME)
        norm_BHG1 = phi_BHGM @ all_keys_BHM[..., None]
        given_BHG1 = (1 / norm_BHG1).masked_fill_(~real_BG[:, None, genes, None], 0.0)
        queries_BHM += (phi_BHGM.mT @ given_BHG1).squeeze(-1)
    sums_BHG1 = torch.cat([keys(genes) @ queries_BHM[..., None] for genes in parts], dim=2)
    return sums_BHG1.squeeze(-1).masked_fill_(~real_BG[:, None], 0.0)


def _exact(q_BHGE: Tensor, k_BHGE: Tensor, real_BG: Tensor, chunk: int) -> Tensor:
    scaled_BHEG = k_BHGE.mT * q_BHGE.shape[-1] ** -0.5
    sums_BHG = q_BHGE.new_zeros(q_BHGE.shape[:3])
    lowest = torch.finfo(q_BHGE.dtype).min  # -inf would be NaN in a cell without genes
    for genes in slices(q_BHGE.shape[2], chunk):
        score_BHQG = q_BHGE[:, :, genes] @ scaled_BHEG
        rows_BHQG = score_BHQG.masked_fill_(~real_BG[:, None, None, :], lowest).softmax(dim=-1)
        rows_BHQG.masked_fill_(~real_BG[:, None, genes, None], 0.0)
        sums_BHG += rows_BHQG.sum(dim=2)
    return sums_BHG
