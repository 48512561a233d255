"""Cells one after another, without padding between them, for exact attention.

Attention then costs what the cells hold, and no mask is needed: on a GPU FlashAttention takes the
cells by their bounds, on a CPU each cell is attended to by itself.

Shape letters: T tokens of all cells, N cells, H heads, E width of a head.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

HALF = (torch.bfloat16, torch.float16)  # what FlashAttention takes, and heads of these widths
WIDEST, STEP = 256, 8


@dataclass(frozen=True)
class Packing:
    """Where the cells lie among T tokens.

    Parameters
    ----------
    starts_N
        int32, shape (cells + 1,), on the device of the tokens: cell n has the tokens from
        starts[n] to starts[n + 1]. Bounds that are repeated are cells without tokens.
    spans
        The same for the cells that have tokens, on the host.
    longest
        No cell has more tokens; a constant of the run, as a compiled network wants it.
    place_T
        Where each token lies in the flattened rows of a padded batch; None: the tokens are packed
        as they come.
    """

    starts_N: Tensor
    spans: tuple[tuple[int, int], ...]
    longest: int
    place_T: Tensor | None = None

    def to(self, device: torch.device) -> "Packing":
        """Move to a device."""
        starts_N = self.starts_N.to(device, non_blocking=True)
        place_T = None if self.place_T is None else self.place_T.to(device, non_blocking=True)
        return Packing(starts_N, self.spans, self.longest, place_T)

    def pinned(self) -> "Packing":
        """Return it in memory from which a GPU copies while the CPU goes on."""
        place_T = None if self.place_T is None else self.place_T.pin_memory()
        return Packing(self.starts_N.pin_memory(), self.spans, self.longest, place_T)


def pack(
    lengths: np.ndarray, longest: int, n_bounds: int = 0, place: np.ndarray | None = None
) -> Packing:
    """Lay cells of these lengths one after another.

    Parameters
    ----------
    lengths
        Tokens of each cell.
    longest
        A bound of the lengths.
    n_bounds
        Bounds at least, for a constant shape: cells without tokens are added.
    place
        See `Packing.place_T`.
    """
    starts = np.concatenate([[0], np.cumsum(lengths)])
    spans = tuple((start, stop) for start, stop in pairwise(starts.tolist()) if stop > start)
    filled = np.pad(starts, (0, max(0, n_bounds - len(starts))), mode="edge").astype(np.int32)
    place_T = None if place is None else torch.from_numpy(place)
    return Packing(torch.from_numpy(filled), spans, longest, place_T)


def packed_attention(q_THE: Tensor, k_THE: Tensor, v_THE: Tensor, packing: Packing) -> Tensor:
    """Attend within each cell; returns shape (T, H, E).

    FlashAttention where the device, the type and the width of a head allow it; else each cell by
    itself.
    """
    width = q_THE.shape[-1]
    fits = q_THE.dtype in HALF and width <= WIDEST and width % STEP == 0
    if q_THE.device.type not in ("cpu", "mps") and fits:  # Apple's GPUs have no such kernel
        # With it comes PyTorch's compiler, two seconds of each process that would never need it.
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415

        starts_N, longest = packing.starts_N, packing.longest
        found = varlen_attn(q_THE, k_THE, v_THE, starts_N, starts_N, longest, longest)
        return cast(Tensor, found)
    q_1HTE, k_1HTE, v_1HTE = (x_THE.transpose(0, 1)[None] for x_THE in (q_THE, k_THE, v_THE))
    attended = [
        functional.scaled_dot_product_attention(
            q_1HTE[:, :, start:stop], k_1HTE[:, :, start:stop], v_1HTE[:, :, start:stop]
        )
        for start, stop in packing.spans
    ]
    if not attended:
        return torch.zeros_like(v_THE)
    return torch.cat(attended, dim=2)[0].transpose(0, 1)
