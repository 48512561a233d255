"""A mini-batch of cells, made in a thread ahead of its use, and its way to a GPU in few bytes."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from scbert.network.masking import NOT_A_TARGET
from scbert.network.packing import Packing

GENE_SHIFT = 2**15  # genes travel as int16: those of a store are below 2^16
NO_TARGET = 255  # as a byte; bins are at most 250
AHEAD = 4  # batches
Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class MiniBatch:
    """Cells as the network takes them; `rows` are their numbers in the store.

    `targets` is what is asked: bins (B, G), -100 where nothing is, or cell types (B,); None:
    nothing. `packing` says where the tokens of the cells lie, for exact attention.
    """

    rows: np.ndarray
    genes_BG: Tensor
    tokens_BG: Tensor
    real_BG: Tensor
    packing: Packing | None = None
    targets: Tensor | None = None

    @property
    def cells(self) -> Tensor | Packing:
        """Where the cells are, as the encoder takes it."""
        return self.real_BG if self.packing is None else self.packing

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each cell, shape (cells,). On the CPU."""
        if self.packing is None or self.packing.place_T is not None:
            return self.real_BG.sum(dim=1).numpy()
        return np.diff(self.packing.starts_N[: len(self.rows) + 1].numpy())

    def cell_of_token(self) -> Tensor:
        """Return the number of the cell that each position is of, int64, shape (B, G).

        Positions that fill packed cells up get a number of their own, the last. On the CPU.
        """
        if self.packing is None or self.packing.place_T is not None:
            return torch.arange(len(self.rows))[:, None].expand(self.genes_BG.shape)
        starts_N = self.packing.starts_N[1 : len(self.rows) + 1].to(torch.int64)
        position_T = torch.arange(self.genes_BG.shape[1])
        return torch.searchsorted(starts_N, position_T, right=True)[None]

    def narrow(self) -> "MiniBatch":
        """Return it in as few bytes as it needs, in pinned memory: what is copied to a GPU.

        Three or four bytes a token instead of 17, and eight more where cells are packed within
        padded rows; the CPU does not wait for the copy.
        """
        genes_BG = (self.genes_BG - GENE_SHIFT).to(torch.int16)
        targets = self.targets
        if targets is not None and targets.dim() == 2:
            targets = targets.masked_fill(targets == NOT_A_TARGET, NO_TARGET).to(torch.uint8)
        return MiniBatch(
            rows=self.rows,
            genes_BG=genes_BG.pin_memory(),
            tokens_BG=self.tokens_BG.to(torch.uint8).pin_memory(),
            real_BG=self.real_BG.pin_memory(),
            packing=None if self.packing is None else self.packing.pinned(),
            targets=None if targets is None else targets.pin_memory(),
        )

    def bound_for(self, device: torch.device) -> "MiniBatch":
        """Return what is to be copied to a device, made ready in the thread that makes batches."""
        return self.narrow() if device.type == "cuda" else self

    def to(self, device: torch.device) -> "MiniBatch":
        """Move to a device, and widen there what `narrow` made small."""
        genes_BG, tokens_BG, real_BG = (
            tensor.to(device, non_blocking=True)
            for tensor in (self.genes_BG, self.tokens_BG, self.real_BG)
        )
        targets = None if self.targets is None else self.targets.to(device, non_blocking=True)
        if genes_BG.dtype == torch.int16:
            genes_BG = genes_BG.to(torch.int32) + GENE_SHIFT
            tokens_BG = tokens_BG.to(torch.int32)
        if targets is not None and targets.dtype == torch.uint8:
            targets = targets.to(torch.int64)
            targets = targets.masked_fill(targets == NO_TARGET, NOT_A_TARGET)
        packing = None if self.packing is None else self.packing.to(device)
        return replace(
            self,
            genes_BG=genes_BG,
            tokens_BG=tokens_BG,
            real_BG=real_BG,
            packing=packing,
            targets=targets,
        )


class Prefetched(Generic[Given, Made]):
    """Iterate over `make(one)` for each one of `plan`, in order, some made ahead of time.

    `waited` is the number of seconds that the consumer has waited.
    """

    def __init__(self, make: Callable[[Given], Made], plan: Iterable[Given]) -> None:
        self.waited = 0.0
        self._make, self._plan = make, iter(plan)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._ahead: deque[Future[Made]] = deque()

    def __enter__(self) -> Self:
        self._submit(AHEAD)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Made]:
        return self

    def __next__(self) -> Made:
        if not self._ahead:
            raise StopIteration
        started = time.perf_counter()
        made = self._ahead.popleft().result()
        self.waited += time.perf_counter() - started
        self._submit(1)
        return made

    def _submit(self, count: int) -> None:
        self._ahead += [self._thread.submit(self._make, one) for one in islice(self._plan, count)]
