"""Does a trained network attend to anything? Attention that is the same for all genes is a mean.

FAVOR+ adds a floor to each feature, after dividing by the highest of all keys. Where queries and
keys grow, nearly all key features fall to that floor, and attention becomes uniform without any
error: the network then works around it. The share of features at the floor and the distance of
attention from uniform show it; `qk_rms` of the network's settings prevents it.

Shape letters: B cells, H heads, G genes, E width of a head, M random features, Q sampled queries.
"""

import math

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
from scbert.network.layer_attention import LayerAttention
from scbert.network.model import Encoder
from scbert.network.random_features import EPSILON

QUERIES = 64  # per cell: the mean of a distance is then known to a few percent
COLLAPSED = 0.9  # share of key features at the floor; docs/decisions/network.md


def diagnose_attention(
    encoder: Encoder, genes_BG: Tensor, tokens_BG: Tensor, real_BG: Tensor, seed: int
) -> list[LayerAttention]:
    """Measure the attention of each layer on some cells.

    Parameters
    ----------
    genes_BG, tokens_BG, real_BG
        Cells with at least one gene each.
    seed
        Of the choice of queries.
    """
    assert real_BG.any(dim=1).all(), "a cell has no gene"
    generator = torch.Generator().manual_seed(seed)
    # On the CPU every device draws the same; with replacement, as a cell may have fewer genes.
    chosen_BQ = torch.multinomial(
        real_BG.cpu().double(), QUERIES, replacement=True, generator=generator
    ).to(real_BG.device)

    def look(
        attention: PerformerAttention | ExactAttention, q_BHGE: Tensor, k_BHGE: Tensor
    ) -> Tensor:
        each = [
            _look_at_cell(attention, q[:, chosen][None], k[None], real[None])
            for q, chosen, k, real in zip(q_BHGE, chosen_BQ, k_BHGE, real_BG, strict=True)
        ]
        return torch.stack(each).mean(dim=0)

    layers = look_into_layers(encoder, genes_BG, tokens_BG, real_BG, look)
    return [_summary(number, *found) for number, found in enumerate(layers, start=1)]


def _summary(
    layer: int, at_floor_H: Tensor, uniform_H: Tensor, softmax_H: Tensor
) -> LayerAttention:
    share = float(at_floor_H.mean())
    return LayerAttention(
        layer=layer,
        at_floor=None if math.isnan(share) else share,  # NaN: there are no features
        collapsed=share > COLLAPSED,
        from_uniform=float(uniform_H.mean()),
        from_softmax=float(softmax_H.mean()),
        least_from_uniform=float(uniform_H.min()),
        most_from_uniform=float(uniform_H.max()),
    )


def _look_at_cell(
    attention: PerformerAttention | ExactAttention, q_BHQE: Tensor, k_BHGE: Tensor, real_BG: Tensor
) -> Tensor:
    """Return share at the floor, distance from uniform and from softmax, per head: (3, H)."""
    exact_BHQG = _softmax_rows(q_BHQE, k_BHGE, real_BG)
    if isinstance(attention, ExactAttention):
        rows_BHQG, at_floor_BH = exact_BHQG, torch.full_like(exact_BHQG[..., 0, 0], torch.nan)
    else:
        rows_BHQG, at_floor_BH = _favor_rows(attention, q_BHQE, k_BHGE, real_BG)
    uniform_B11G = (real_BG / real_BG.sum(dim=1, keepdim=True))[:, None, None, :]
    distances = (_total_variation(rows_BHQG, other) for other in (uniform_B11G, exact_BHQG))
    return torch.cat([at_floor_BH, *distances])


def _total_variation(one_BHQG: Tensor, other_BHQG: Tensor) -> Tensor:
    return (one_BHQG - other_BHQG).abs().sum(dim=-1).mean(dim=-1) / 2


def _softmax_rows(q_BHQE: Tensor, k_BHGE: Tensor, real_BG: Tensor) -> Tensor:
    score_BHQG = q_BHQE @ k_BHGE.mT * q_BHQE.shape[-1] ** -0.5
    return score_BHQG.masked_fill_(~real_BG[:, None, None, :], -torch.inf).softmax(dim=-1)


def _favor_rows(
    attention: PerformerAttention, q_BHQE: Tensor, k_BHGE: Tensor, real_BG: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the attention of the queries, and the share of real key features at the floor."""
    w_ME, chunk = attention.projection_ME, genes_at_once(attention, k_BHGE)
    sum_BHM, highest_BH11 = sum_of_keys(k_BHGE, real_BG, attention, chunk)
    phi_BHQM = query_features(q_BHQE, w_ME)
    rows, n_floor_BH = [], sum_BHM.new_zeros(sum_BHM.shape[:2])
    for genes in slices(k_BHGE.shape[2], chunk):
        real_B1G1 = real_BG[:, None, genes, None]
        phi_BHGM = key_features(k_BHGE[:, :, genes], real_BG[:, genes], w_ME, highest_BH11)
        # Twice: the features hold the floor already.
        n_floor_BH += ((phi_BHGM <= 2 * EPSILON) & real_B1G1).sum(dim=(2, 3))
        rows.append(phi_BHQM @ phi_BHGM.mT * real_B1G1.mT)
    norm_BHQ1 = phi_BHQM @ sum_BHM[..., None]
    n_features_B1 = real_BG.sum(dim=1, keepdim=True) * len(w_ME)
    return torch.cat(rows, dim=-1) / norm_BHQ1, n_floor_BH / n_features_B1
