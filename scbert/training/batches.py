"""Token store -> mini-batches of cells of similar length.

Shape letters: B cells in a mini-batch, G genes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from scbert.cells.store import TokenStore
from scbert.network.masking import padding_id

MOST_PADDING = 0.08  # share of a batch
ENOUGH_CELLS = 8  # in fewer, padding costs less than one more batch
CELLS_AT_ONCE = 10_000  # whose genes are looked at together, to count the used ones
# From the store: the system maps about 64 kB around each array\'s part of a cell.
CELLS_TO_RELEASE = 64
POOL = 50  # batches whose cells are sorted by length together: little padding, still shuffled


@dataclass(frozen=True)
class MiniBatch:
    """Cells as the network takes them; `rows` are their numbers in the store."""

    rows: np.ndarray
    genes_BG: Tensor
    tokens_BG: Tensor
    real_BG: Tensor

    def to(self, device: torch.device) -> "MiniBatch":
        """Move to a device."""
        return MiniBatch(
            self.rows,
            *(
                t.to(device, non_blocking=True)
                for t in (self.genes_BG, self.tokens_BG, self.real_BG)
            ),
        )


@dataclass(frozen=True)
class CellBatches:
    """Makes mini-batches from a store.

    Parameters
    ----------
    sequence
        expressed_genes: the genes with bin >= 1 of a cell. all_genes: every gene of the vocabulary
        that the cell's sample measured, silent ones as bin 0. paper: as the original does it, every
        gene of the vocabulary, those not measured as bin 0 too, and a last token of bin 0 that is
        no gene.
    tokens_per_batch
        Largest B x G, padding included; a longer cell gets a batch of its own.
    genes
        Which genes of the vocabulary may be tokens, shape (vocabulary,); None: all.
    """

    store: TokenStore
    sequence: str
    n_bins: int
    tokens_per_batch: int
    genes: np.ndarray | None = None

    @property
    def _n_genes(self) -> int:
        return self.store.measured.shape[1]

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each cell in this mode, shape (cells,)."""
        used = np.ones(self._n_genes, dtype=bool) if self.genes is None else self.genes
        if self.sequence == "paper":
            return np.full(len(self.store), used.sum() + 1)
        if self.sequence == "all_genes":
            return self.store.measured[:, used].sum(axis=1)[self.store.sample]
        return self.store.lengths() if self.genes is None else self._used_lengths

    @cached_property
    def _used_lengths(self) -> np.ndarray:
        """Number of expressed genes of each cell that may be tokens; reads the whole store once."""
        starts = np.arange(0, len(self.store), CELLS_AT_ONCE)
        counts = [self._count(slice(start, start + CELLS_AT_ONCE)) for start in starts]
        return np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)

    def _count(self, cells: slice) -> np.ndarray:
        assert self.genes is not None
        ends = self.store.indptr[cells.start : cells.stop + 1]
        used = self.genes[self.store.gene[ends[0] : ends[-1]]]
        return np.diff(np.concatenate([[0], used.cumsum()])[ends - ends[0]])

    def plan(self, rows: np.ndarray, rng: np.random.Generator | None) -> list[np.ndarray]:
        """Divide cells into batches: shuffled by `rng`, or, without one, from short to long."""
        lengths = self.lengths().astype(np.int32, copy=False)  # 4 bytes for each cell
        np.maximum(lengths, 1, out=lengths)  # a cell without tokens is one position of padding
        if rng is None:
            return _cut(
                rows[np.argsort(lengths[rows], kind="stable")], lengths, self.tokens_per_batch
            )
        shuffled = rng.permutation(rows)
        per_batch = max(1, int(self.tokens_per_batch // np.median(lengths[rows])))
        batches = []
        for start in range(0, len(shuffled), POOL * per_batch):
            pool = shuffled[start : start + POOL * per_batch]
            pool[:] = pool[np.argsort(lengths[pool], kind="stable")]
            batches += _cut(pool, lengths, self.tokens_per_batch)
        return [batches[number] for number in rng.permutation(len(batches))]

    def make(self, rows: np.ndarray) -> MiniBatch:
        """Put the tokens of these cells side by side, padded to the longest.

        A cell without tokens is padding only, at least one position of it; the network makes
        something finite of that, which depends on no other cell.
        """
        cells = [self._cell(row) for row in rows]
        shape = (len(rows), max(1, *(len(genes) for genes, _ in cells)) if cells else 1)
        genes = np.zeros(shape, dtype=np.int64)
        tokens = np.full(shape, padding_id(self.n_bins), dtype=np.int64)
        for row, (gene, bins) in enumerate(cells):
            genes[row, : len(gene)] = gene
            tokens[row, : len(bins)] = bins
            if row % CELLS_TO_RELEASE == 0:
                self.store.release()
        real = tokens != padding_id(self.n_bins)
        return MiniBatch(rows, *(torch.from_numpy(array) for array in (genes, tokens, real)))

    def _cell(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        genes, bins = self._every_token(row)
        if self.genes is None:
            return genes, bins
        used = np.append(self.genes, True)[genes]  # the appended token of `paper` is no gene
        return genes[used], bins[used]

    def _every_token(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        genes, bins = self.store.tokens(row)
        if self.sequence == "expressed_genes":
            return genes, bins
        if self.sequence == "paper":
            every = np.zeros(self._n_genes + 1, dtype=np.int64)
            every[genes] = bins
            return np.arange(self._n_genes + 1), every
        measured = self.store.measured_genes(row)
        dense = np.zeros(len(measured), dtype=np.int64)
        dense[np.searchsorted(measured, genes)] = bins
        return measured, dense

    def epoch(self, rows: np.ndarray, seed: int, number: int) -> list[np.ndarray]:
        """Return the cells of each batch of an epoch; seed and number fix them."""
        return self.plan(rows, np.random.default_rng([seed, number]))

    def each(self, rows: np.ndarray, rng: np.random.Generator | None = None) -> Iterator[MiniBatch]:
        """Yield the batches of `plan`."""
        for batch in self.plan(rows, rng):
            yield self.make(batch)


def _cut(rows: np.ndarray, lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Cut cells, sorted by length, where the next one would exceed the budget or pad too much."""
    batches, start = [], 0
    tokens = np.concatenate([[0], lengths[rows].cumsum(dtype=np.int64)])
    for stop in range(1, len(rows) + 1):
        if stop < len(rows):
            positions = (stop + 1 - start) * int(lengths[rows[stop]])
            padding = positions - (tokens[stop + 1] - tokens[start])
            wasteful = stop - start >= ENOUGH_CELLS and padding > MOST_PADDING * positions
        if stop == len(rows) or positions > budget or wasteful:
            batches.append(rows[start:stop])
            start = stop
    return batches
