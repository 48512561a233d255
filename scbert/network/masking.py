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
) -> tuple[Tensor, Tensor]:
    """Choose targets among the expressed genes and hide most of them.

    Parameters
    ----------
    tokens_BG
        Bins, and padding.
    mask_prob
        Share of the expressed genes (bin >= 1) of a cell that become targets, rounded up.
    replace_prob
        Probability that a target is replaced by MASK; otherwise it stays visible.
    generator
        On the CPU, so that a seed gives the same masks on every device.

    Returns
    -------
    Tokens as the network sees them, and targets: the bin, or -100 where nothing is asked. A cell
    with no expressed gene has no target.
    """
    expressed_BG = (tokens_BG >= 1) & (tokens_BG <= n_bins)
    noise_BG = torch.rand(tokens_BG.shape, generator=generator).to(tokens_BG.device)
    replaced_BG = (
        torch.rand(tokens_BG.shape, generator=generator).to(tokens_BG.device) < replace_prob
    )
    n_targets_B1 = torch.ceil(expressed_BG.sum(dim=1, keepdim=True).double() * mask_prob)
    rank_BG = noise_BG.masked_fill(~expressed_BG, 2.0).argsort(dim=1).argsort(dim=1)
    chosen_BG = (rank_BG < n_targets_B1) & expressed_BG
    hidden_BG = torch.where(chosen_BG & replaced_BG, mask_id(n_bins), tokens_BG)
    return hidden_BG, torch.where(chosen_BG, tokens_BG, NOT_A_TARGET)
