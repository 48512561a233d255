"""What is asked of held-out cells, and what predictors without a network answer.

Shape letters: B cells in a mini-batch, G genes, N masked genes, V visible genes, T bins 1 to
n_bins.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from scbert.cells.store import TokenStore
from scbert.evidence.bin_predictors import (
    Guess,
    cell_part,
    guess_by_counts,
    guess_by_sum,
)
from scbert.training.mini_batch import MiniBatch

PREDICTORS = ("cell_mode", "gene_mode", "additive")
CELLS_AT_ONCE = 1_000  # of the store; about a million tokens


@dataclass(frozen=True)
class Masked:
    """A mini-batch with hidden genes.

    `asked` genes are hidden, `kept` ones are targets in sight; `cell` is the number, in the batch,
    of the cell that each position is of.
    """

    batch: MiniBatch
    cell_BG: Tensor
    asked_BG: Tensor
    kept_BG: Tensor

    @property
    def targets_BG(self) -> Tensor:
        """Bins, and -100 where nothing is asked."""
        assert self.batch.targets is not None
        return self.batch.targets


def guesses(masked: Masked, counts_GT: np.ndarray, gene_GT: np.ndarray) -> list[Guess]:
    """Return the guesses of the PREDICTORS about the hidden genes of a batch."""
    n_bins = counts_GT.shape[1]
    batch, cell_BG = masked.batch, masked.cell_BG.numpy()
    genes_BG, seen_BG = batch.genes_BG.numpy(), batch.tokens_BG.numpy()
    asked_BG = masked.asked_BG.numpy()
    cell_N, gene_N = cell_BG[asked_BG], genes_BG[asked_BG]
    targets_N = masked.targets_BG.numpy()[asked_BG]
    visible_BG = (seen_BG >= 1) & (seen_BG <= n_bins)
    cell_V, bins_V = cell_BG[visible_BG], seen_BG[visible_BG]
    n_cells = len(batch.rows)
    visible_BT = np.zeros((n_cells, n_bins), dtype=np.int64)
    np.add.at(visible_BT, (cell_V, bins_V - 1), 1)
    part_BT = cell_part(gene_GT[genes_BG[visible_BG]], bins_V, cell_V, n_cells)
    everywhere_T = counts_GT.sum(axis=0)
    return [
        guess_by_counts(visible_BT[cell_N], targets_N, everywhere_T),
        guess_by_counts(counts_GT[gene_N], targets_N, everywhere_T),
        guess_by_sum(gene_GT[gene_N], part_BT[cell_N], targets_N),
    ]


def bins_of_genes(store: TokenStore, rows: np.ndarray, n_bins: int) -> np.ndarray:
    """Count how often each gene is in each bin 1 to n_bins, shape (vocabulary, bins)."""
    n_genes = store.measured.shape[1]
    wanted = np.zeros(len(store), dtype=bool)
    wanted[rows] = True
    counts = np.zeros(n_genes * n_bins, dtype=np.int64)
    for begin in range(0, len(store), CELLS_AT_ONCE):
        ends = store.indptr[begin : begin + CELLS_AT_ONCE + 1]
        chosen = np.repeat(wanted[begin : begin + CELLS_AT_ONCE], np.diff(ends))
        gene = store.gene[ends[0] : ends[-1]][chosen].astype(np.int64)
        counts += np.bincount(
            gene * n_bins + store.bin[ends[0] : ends[-1]][chosen] - 1, minlength=len(counts)
        )
        store.release()
    return counts.reshape(n_genes, n_bins)
