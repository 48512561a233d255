"""Mini-batches with hidden genes: drawn anew in training, the same for ever in held-out cells.

Shape letters: B cells in a mini-batch, G genes.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scbert.config import Pretrain
from scbert.network.masking import NOT_A_TARGET, hide_tokens, mask_id, mask_tokens
from scbert.training.batches import CellBatches
from scbert.training.mini_batch import MiniBatch
from scbert.training.reference_predictors import HiddenGenes


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


def hidden_genes(masked: Masked, n_bins: int) -> HiddenGenes:
    """Return what the network is asked about the cells of a batch, and what it sees."""
    genes_BG, seen_BG = masked.batch.genes_BG.numpy(), masked.batch.tokens_BG.numpy()
    cell_BG, asked_BG = masked.cell_BG.numpy(), masked.asked_BG.numpy()
    visible_BG = (seen_BG >= 1) & (seen_BG <= n_bins)
    return HiddenGenes(
        n_cells=len(masked.batch.rows),
        cell_N=cell_BG[asked_BG],
        gene_N=genes_BG[asked_BG],
        bin_N=masked.targets_BG.numpy()[asked_BG],
        visible_cell_V=cell_BG[visible_BG],
        visible_gene_V=genes_BG[visible_BG],
        visible_bin_V=seen_BG[visible_BG],
    )


def make_masked(
    cells: CellBatches, options: Pretrain, rows: np.ndarray, generator: torch.Generator
) -> MiniBatch:
    """Make a batch and hide some of its genes; its targets are their bins."""
    batch = cells.make(rows)
    chances = (options.mask_prob, options.replace_prob)
    cell_BG = None if batch.packing is None else batch.cell_of_token()
    hidden_BG, targets_BG = mask_tokens(batch.tokens_BG, cells.n_bins, *chances, generator, cell_BG)
    return replace(batch, tokens_BG=hidden_BG, targets=targets_BG)


def masked_of_cells(cells: CellBatches, options: Pretrain, rows: np.ndarray) -> Masked:
    """Make a batch whose masks follow from the seed and each cell's row in the store.

    They are the same for every network, however cells are put into batches.
    """
    batch = cells.make(rows)
    cell_BG, drawn = batch.cell_of_token(), _draw_by_cell(batch, options)
    hidden_BG, targets_BG = hide_tokens(
        batch.tokens_BG, cells.n_bins, options.mask_prob, drawn, cell_BG
    )
    batch = replace(batch, tokens_BG=hidden_BG, targets=targets_BG)
    is_hidden_BG, is_target_BG = hidden_BG == mask_id(cells.n_bins), targets_BG != NOT_A_TARGET
    return Masked(batch, cell_BG, is_hidden_BG & is_target_BG, is_target_BG & ~is_hidden_BG)


def _draw_by_cell(batch: MiniBatch, options: Pretrain) -> tuple[Tensor, Tensor]:
    """Return what `hide_tokens` takes, drawn for each cell by itself; its tokens are in order."""
    numbers = [
        np.random.default_rng([options.seed, int(row)]).random((2, length), dtype=np.float32)
        for row, length in zip(batch.rows, batch.lengths(), strict=True)
    ]
    drawn_BG = torch.zeros(2, *batch.tokens_BG.shape)
    drawn_BG[:, batch.real_BG] = torch.from_numpy(np.concatenate(numbers, axis=1))
    return drawn_BG[0], drawn_BG[1] < options.replace_prob
