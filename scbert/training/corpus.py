"""Cells of the corpus, for pretraining: which are held out, and mini-batches with hidden genes.

Genes to hide are drawn anew in training, and the same for ever in held-out cells.

Shape letters: B cells in a mini-batch, G genes.
"""

import re
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scbert.config import Pretrain
from scbert.network.masking import NOT_A_TARGET, hide_tokens, mask_id, mask_tokens
from scbert.tokens.store import TokenStore
from scbert.training.cell_batches import CellBatches
from scbert.training.mini_batch import MiniBatch
from scbert.training.reference_predictors import HiddenGenes

STUDY = re.compile(r"(SRA\d+)_")  # PanglaoDB's samples are named by study and sample


def choose_validation_cells(store: TokenStore, options: Pretrain) -> tuple[np.ndarray, np.ndarray]:
    """Divide the cells into training rows and held-out ones to score, both ascending.

    By cell, a share of the cells of each sample is held out; by sample, whole studies are: samples
    of one study share donors and batches, so cells of the one tell about the other. A sample whose
    name does not begin with an SRA accession is a study of its own. Studies are looked at in random
    order, and each that fits what is left of the share is held out; if none fits, the smallest is.
    Of more held-out cells than `validation_cells`, so many are drawn; the others are not used.

    Raises
    ------
    ValueError
        If no cell is left to train on, or there are fewer than two studies to choose from.
    """
    rng = np.random.default_rng(options.seed)
    if options.validation_by == "sample":
        chosen = _draw_studies(store, options.validation_fraction, rng)
    else:
        chosen = _draw_cells(store.sample, options.validation_fraction, rng)
    if len(chosen) == len(store):
        raise ValueError(
            f"all {len(store)} cell(s) of the corpus are held out for validation, at least one of "
            "each sample, and none is left to train on. Add cells to the corpus."
        )
    trained_on = np.ones(len(store), dtype=bool)
    trained_on[chosen] = False
    if len(chosen) > options.validation_cells:
        chosen = np.sort(rng.choice(chosen, options.validation_cells, replace=False))
    rows = np.arange(len(store), dtype=np.int32)  # an epoch holds them once more, shuffled
    return rows[trained_on], chosen


def studies_of(store: TokenStore) -> list[str]:
    """Return the study of each sample of the store."""
    names = [source["sample"] for source in store.meta["sources"]]
    return [found[1] if (found := STUDY.match(name)) else name for name in names]


def _draw_cells(sample: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    held_out = []
    for number in np.unique(sample):
        rows = rng.permutation(np.flatnonzero(sample == number))
        held_out.append(rows[: max(1, round(len(rows) * fraction))])
    return np.sort(np.concatenate(held_out))


def _draw_studies(store: TokenStore, fraction: float, rng: np.random.Generator) -> np.ndarray:
    names, code = np.unique(studies_of(store), return_inverse=True)
    sizes = np.bincount(code[store.sample], minlength=len(names))
    present = np.flatnonzero(sizes)  # of a sample, quality control may have left no cell
    if len(present) < 2:
        raise ValueError(
            f"the corpus has {len(present)} study ({names[present[0]]}), but to hold one out two "
            "are needed. Add samples of other studies, or set pretrain.validation_by to cell."
        )
    left = fraction * len(store)
    held_out = []
    for number in rng.permutation(present):
        if sizes[number] <= left:
            held_out.append(number)
            left -= sizes[number]
    chosen = held_out or [present[sizes[present].argmin()]]
    return np.flatnonzero(np.isin(code, chosen)[store.sample])


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
    hidden_BG, targets_BG = mask_tokens(
        batch.tokens_BG,
        cells.n_bins,
        mask_prob=options.mask_prob,
        replace_prob=options.replace_prob,
        generator=generator,
        cell_BG=None if batch.packing is None else batch.cell_of_token(),
    )
    return replace(batch, tokens_BG=hidden_BG, targets=targets_BG)


def masked_of_cells(cells: CellBatches, options: Pretrain, rows: np.ndarray) -> Masked:
    """Make a batch whose masks follow from the seed and each cell's row in the store.

    They are the same for every network, however cells are put into batches.
    """
    batch = cells.make(rows)
    cell_BG, drawn = batch.cell_of_token(), _draw_by_cell(batch, options)
    hidden_BG, targets_BG = hide_tokens(
        batch.tokens_BG, cells.n_bins, mask_prob=options.mask_prob, drawn=drawn, cell_BG=cell_BG
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
