"""Token store -> mini-batches of cells, of similar length or packed.

Shape letters: B cells in a mini-batch, G genes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from scbert.network.masking import padding_id
from scbert.network.packing import pack
from scbert.tokens.store import TokenStore
from scbert.training.mini_batch import MiniBatch

MOST_PADDING = 0.08  # share of a batch
ENOUGH_CELLS = 8  # in fewer, padding costs less than one more batch
CELLS_AT_ONCE = 10_000  # whose genes are looked at together, to count the used ones
# From the store: the system maps about 64 kB around each array\'s part of a cell.
CELLS_TO_RELEASE = 64
POOL = 50  # batches whose cells are sorted by length together: little padding, still shuffled
Layout = Literal["padded", "packed_within", "packed"]


def layout_of(network: Mapping[str, Any]) -> Layout:
    """Return how a network of these settings takes cells that have a head behind it."""
    return "packed_within" if network["attention"] == "exact" else "padded"


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
    layout
        padded: a row for each cell, as long as the longest. packed_within: the same, and where the
        tokens lie in it, so that exact attention leaves the padding out. packed: all cells in one
        row, one after another.
    constant
        Fill packed batches up to `tokens_per_batch`: all have one shape, as a compiled network
        wants it.
    """

    store: TokenStore
    sequence: str
    n_bins: int
    tokens_per_batch: int
    genes: np.ndarray | None = None
    layout: Layout = "padded"
    constant: bool = False

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
            return self._cut(rows[np.argsort(lengths[rows], kind="stable")], lengths)
        shuffled = rng.permutation(rows)
        if self.layout == "packed":
            return self._cut(shuffled, lengths)
        per_batch = max(1, int(self.tokens_per_batch // np.median(lengths[rows])))
        batches = []
        for start in range(0, len(shuffled), POOL * per_batch):
            pool = shuffled[start : start + POOL * per_batch]
            pool[:] = pool[np.argsort(lengths[pool], kind="stable")]
            batches += self._cut(pool, lengths)
        # Else each pool would begin with its shortest cells.
        return [batches[number] for number in rng.permutation(len(batches))]

    def _cut(self, rows: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        if self.layout == "packed":
            return _cut_packed(rows, lengths, self.tokens_per_batch, self._most_cells)
        return _cut_padded(rows, lengths, self.tokens_per_batch)

    @cached_property
    def _longest(self) -> int:
        return int(self.lengths().max(initial=1))

    @cached_property
    def _most_cells(self) -> int:
        """In a packed batch: as many as there are of the shortest twentieth."""
        lengths = self.lengths()
        short = max(1.0, float(np.quantile(lengths, 0.05))) if len(lengths) else 1.0
        return max(1, int(self.tokens_per_batch / short))

    def make(self, rows: np.ndarray) -> MiniBatch:
        """Put the tokens of these cells side by side: padded to the longest, or packed."""
        cells = []
        for number, row in enumerate(rows):
            cells.append(self._cell(row))
            if number % CELLS_TO_RELEASE == 0:
                self.store.release()
        return self._packed(rows, cells) if self.layout == "packed" else self._padded(rows, cells)

    def _padded(self, rows: np.ndarray, cells: list[tuple[np.ndarray, np.ndarray]]) -> MiniBatch:
        """Pad. A cell without tokens is padding only, at least one position of it.

        The network makes something finite of that, which depends on no other cell.
        """
        shape = (len(rows), max(1, *(len(genes) for genes, _ in cells)) if cells else 1)
        genes = np.zeros(shape, dtype=np.int64)
        tokens = np.full(shape, padding_id(self.n_bins), dtype=np.int64)
        for row, (gene, bins) in enumerate(cells):
            genes[row, : len(gene)] = gene
            tokens[row, : len(bins)] = bins
        real = tokens != padding_id(self.n_bins)
        packing = None
        if self.layout == "packed_within":
            packing = pack(real.sum(axis=1), shape[1], place=np.flatnonzero(real))
        genes_BG, tokens_BG, real_BG = map(torch.from_numpy, (genes, tokens, real))
        return MiniBatch(rows, genes_BG, tokens_BG, real_BG, packing=packing)

    def _packed(self, rows: np.ndarray, cells: list[tuple[np.ndarray, np.ndarray]]) -> MiniBatch:
        """Lay the cells one after another; what fills the batch up are cells of padding."""
        lengths = np.array([len(genes) for genes, _ in cells], dtype=np.int64)
        n_tokens, filled = int(lengths.sum()), max(1, int(lengths.sum()))
        longest, n_bounds = int(lengths.max(initial=1)), 0
        if self.constant:
            filled, longest = max(filled, self.tokens_per_batch), self._longest
            n_bounds = self._most_cells + -(-filled // longest) + 2
        spare = np.diff(np.append(np.arange(n_tokens, filled, longest), filled))
        genes = np.zeros((1, filled), dtype=np.int64)
        tokens = np.full((1, filled), padding_id(self.n_bins), dtype=np.int64)
        if n_tokens:
            np.concatenate([gene for gene, _ in cells], out=genes[0, :n_tokens], casting="unsafe")
            np.concatenate([bins for _, bins in cells], out=tokens[0, :n_tokens], casting="unsafe")
        packing = pack(np.concatenate([lengths, spare]), longest, n_bounds)
        real = tokens != padding_id(self.n_bins)
        genes_BG, tokens_BG, real_BG = map(torch.from_numpy, (genes, tokens, real))
        return MiniBatch(rows, genes_BG, tokens_BG, real_BG, packing=packing)

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

    def each(self, rows: np.ndarray) -> Iterator[MiniBatch]:
        """Yield the batches of `plan`, in the order of the rows."""
        for batch in self.plan(rows, None):
            yield self.make(batch)


def _cut_packed(
    rows: np.ndarray, lengths: np.ndarray, budget: int, most_cells: int
) -> list[np.ndarray]:
    """Cut cells where the next one would exceed the budget, or is one too many."""
    batches, start = [], 0
    ends = lengths[rows].cumsum(dtype=np.int64)
    while start < len(rows):
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + budget, side="right"))
        stop = min(max(stop, start + 1), start + most_cells)
        batches.append(rows[start:stop])
        start = stop
    return batches


def _cut_padded(rows: np.ndarray, lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Cut cells, sorted by length, where the next one would exceed the budget or pad too much."""
    batches, start = [], 0
    ordered = lengths[rows].astype(np.int64)
    tokens = np.concatenate([[0], ordered.cumsum()])
    while start < len(rows):
        most = max(1, budget // int(ordered[start]))  # cells, if none were longer
        stop = start + 1 + np.arange(min(most, len(rows) - start))  # with 1, 2, ... cells
        positions = (stop - start) * ordered[stop - 1]
        padding = positions - (tokens[stop] - tokens[start])
        wasteful = (stop - start > ENOUGH_CELLS) & (padding > MOST_PADDING * positions)
        too_much = (positions > budget) | wasteful
        too_much[0] = False
        end = int(stop[too_much.argmax()]) - 1 if too_much.any() else int(stop[-1])
        batches.append(rows[start:end])
        start = end
    return batches
