"""Hide some of the expressed genes of each cell.

Source: Yang et al. 2022, Methods; scBERT@262fd4b, pretrain.py: 15 % of the expressed genes
(rounded up) are targets, 90 % of which the network sees as MASK; no random replacement. The mask
has an id of its own here, where the original shares it with padding.

Shape letters: B cells in a mini-batch, G genes.
"""

import torch
from torch import Tensor

NOT_A_TARGET = -100  # torch's ignore_index


def mask_id(n_bins: int) -> int:
    """Return the token id of a hidden gene; bins are 0 to n_bins."""
    return n_bins + 1


def padding_id(n_bins: int) -> int:
    """Return the token id of padding."""
    return n_bins + 2


def mask_tokens(
    tokens_BG: Tensor,
    n_bins: int,
    mask_prob: float,
    replace_prob: float,
    generator: torch.Generator,
    cell_BG: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose targets among the expressed genes and hide most of them; see `hide_tokens`.

    On the CPU, where batches are made ahead of the network: a seed gives the same masks for every
    device, and no GPU is waited for.

    Parameters
    ----------
    cell_BG
        The number of the cell that each token is of; nothing is then drawn for what fills up packed
        cells, so that the masks do not depend on it. None: each row is a cell.
    """
    noise_BG, chance_BG = torch.zeros(tokens_BG.shape), torch.zeros(tokens_BG.shape)
    drawn_BG = torch.ones(tokens_BG.shape, dtype=torch.bool)
    if cell_BG is not None:
        drawn_BG = tokens_BG != padding_id(n_bins)
    for numbers_BG in (noise_BG, chance_BG):
        numbers_BG[drawn_BG] = torch.rand(int(drawn_BG.sum()), generator=generator)
    drawn = (noise_BG, chance_BG < replace_prob)
    return hide_tokens(tokens_BG, n_bins, mask_prob, drawn, cell_BG)


def hide_tokens(
    tokens_BG: Tensor,
    n_bins: int,
    mask_prob: float,
    drawn: tuple[Tensor, Tensor],
    cell_BG: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose targets among the expressed genes and hide most of them.

    Parameters
    ----------
    tokens_BG
        Bins, and padding.
    mask_prob
        Share of the expressed genes (bin >= 1) of a cell that become targets, rounded up.
    drawn
        Numbers from 0 to 1, of which the smallest of a cell choose its targets, and whether a
        target is replaced by MASK; otherwise it stays visible.
    cell_BG
        The number of the cell that each token is of, ascending; None: each row is a cell.

    Returns
    -------
    Tokens as the network sees them, and targets: the bin, or -100 where nothing is asked. A cell
    with no expressed gene has no target.
    """
    if cell_BG is None:
        cell_BG = torch.arange(len(tokens_BG))[:, None].expand(tokens_BG.shape)
    noise_BG, replaced_BG = drawn
    expressed_BG = (tokens_BG >= 1) & (tokens_BG <= n_bins)
    chosen_T = _smallest_of_each(noise_BG[expressed_BG], cell_BG[expressed_BG], mask_prob)
    chosen_BG = expressed_BG.masked_scatter(expressed_BG, chosen_T)
    hidden_BG = torch.where(chosen_BG & replaced_BG, mask_id(n_bins), tokens_BG)
    return hidden_BG, torch.where(chosen_BG, tokens_BG, NOT_A_TARGET)


def _smallest_of_each(noise_T: Tensor, cell_T: Tensor, share: float) -> Tensor:
    """Return whether each number is among this share of its cell's, rounded up; cells ascend."""
    count_N = torch.bincount(cell_T, minlength=1)
    start_N = count_N.cumsum(0) - count_N
    # In float32 0.15 of 100 genes is a little above 15, and rounded up 16.
    wanted_N = torch.ceil(count_N.double() * share)
    # Two numbers of a cell are equal about once in ten epochs of a thousand cells.
    order_T = torch.argsort(cell_T + noise_T.double() / 2, stable=True)
    rank_T = torch.empty_like(order_T)
    rank_T[order_T] = torch.arange(len(order_T)) - start_N[cell_T]
    return rank_T < wanted_N[cell_T]
