"""Step pretrain: tokens of the corpus + gene2vec -> a pretrained encoder."""

import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from scbert.cells.genes import read_vocabulary, vocabulary_sha256
from scbert.cells.store import TokenStore, open_store
from scbert.config import Pretrain, PretrainSettings
from scbert.evidence.baselines import score_bin_counts
from scbert.files import sha256_of
from scbert.network.diagnostics import diagnose_attention
from scbert.network.masking import NOT_A_TARGET, mask_tokens
from scbert.network.model import MaskedExpressionModel
from scbert.network.performer import redraw_projections
from scbert.provenance import provenance
from scbert.steps.gene2vec import read_vectors
from scbert.training.batches import CellBatches, MiniBatch
from scbert.training.bundle import gene_table, new_pretraining_model, save_bundle
from scbert.training.checkpoint import remove_checkpoint
from scbert.training.loop import Task, fit, make_accelerator

log = logging.getLogger(__name__)

DIAGNOSED_CELLS = 8  # full-length cells take seconds each


def pretrain(
    tokens: Path,
    vocabulary: Path,
    gene2vec: Path,
    pretrained: Path,
    checkpoint: Path,
    settings: PretrainSettings,
) -> None:
    """Train the encoder to predict hidden bins, and write it as a bundle.

    Parameters
    ----------
    checkpoint
        Folder where a run that was stopped left its state, and continues from.

    Raises
    ------
    ValueError
        If store, vocabulary and gene vectors do not belong together, the checkpoint belongs to
        another run, or there are too few cells.
    """
    store, genes = open_store(tokens), read_vocabulary(vocabulary)
    require_same_vocabulary(store, vocabulary_sha256(genes), tokens)
    vectors = gene_table(torch.from_numpy(read_vectors(gene2vec, genes)), settings.sequence)
    n_bins, options = settings.binning.n_bins, settings.pretrain
    model = new_pretraining_model(settings.network, n_bins, vectors, options.seed)
    accelerator = make_accelerator(options.optimizer)
    cells = CellBatches(store, settings.sequence, n_bins, options.optimizer.tokens_per_batch)
    training, held_out = hold_out(store, options.validation_fraction, options.seed)
    log.info(
        "%d cells to train on, %d held out, on %s", len(training), len(held_out), accelerator.device
    )
    epochs, validation = _Training(cells, training, options), _Validation(cells, held_out, options)
    task = Task(
        model=model,
        batches=epochs.batches,
        loss=epochs.loss,
        validate=partial(validation.score, model, accelerator.device),
        after_step=partial(_redraw, model.encoder, options),
        identity={
            "tokens": store.meta,
            "gene2vec": sha256_of(gene2vec / "vectors.npy"),
            **settings.model_dump(mode="json"),
        },
    )
    history = fit(task, options.optimizer, options.seed, accelerator, checkpoint)
    result = {
        "cells": len(held_out),
        "masked_tokens": validation.n_targets,
        "loss": history[-1]["validation_loss"],
        "accuracy": history[-1]["validation_accuracy"],
        "predictors": validation.predictors(training),
        "attention": _diagnose(model, cells, held_out, accelerator.device, options.seed),
    }
    log.info("held-out cells: %s", result)
    config = settings.model_dump(mode="json") | {
        "kind": "pretrained",
        "n_bins": n_bins,
        "tokens": store.meta,
        "provenance": provenance(),
    }
    save_bundle(pretrained, model, config, genes, history, {"validation": result})
    remove_checkpoint(checkpoint)


def require_same_vocabulary(store: TokenStore, sha256: str, tokens: Path) -> None:
    """Refuse tokens that were made with another vocabulary: gene numbers would mean other genes."""
    if store.meta["vocabulary_sha256"] != sha256:
        raise ValueError(f"{tokens} was written for another vocabulary. Bin the expression again.")


def hold_out(store: TokenStore, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide the cells of each sample into training and held-out rows, both ascending.

    Raises
    ------
    ValueError
        If no cell is left to train on.
    """
    rng = np.random.default_rng(seed)
    held_out = []
    for sample in np.unique(store.sample):
        rows = rng.permutation(np.flatnonzero(store.sample == sample))
        held_out.append(rows[: max(1, round(len(rows) * fraction))])
    chosen = np.sort(np.concatenate(held_out))
    if len(chosen) == len(store):
        raise ValueError(
            f"all {len(store)} cell(s) of the corpus are held out for validation, at least one of "
            "each sample, and none is left to train on. Add cells to the corpus."
        )
    return np.setdiff1d(np.arange(len(store)), chosen), chosen


def _diagnose(
    model: MaskedExpressionModel,
    cells: CellBatches,
    rows: np.ndarray,
    device: torch.device,
    seed: int,
) -> list[dict[str, Any]]:
    """Measure the attention of each layer on a few held-out cells, nothing hidden."""
    not_empty = rows[cells.lengths()[rows] > 0]
    batch = cells.make(not_empty[:: -(-len(not_empty) // DIAGNOSED_CELLS)]).to(device)
    encoder = model.eval().encoder
    return diagnose_attention(encoder, batch.genes_BG, batch.tokens_BG, batch.real_BG, seed)


def _redraw(encoder: nn.Module, options: Pretrain, step: int) -> None:
    if options.redraw_interval and step % options.redraw_interval == 0:
        redraw_projections(encoder.performer, options.seed + step)


class _Training:
    """Batches and masks of each epoch; both follow from the seed and the number of the epoch."""

    def __init__(self, cells: CellBatches, rows: np.ndarray, options: Pretrain) -> None:
        self.cells, self.rows, self.options = cells, rows, options
        self.generator = torch.Generator()

    def batches(self, epoch: int) -> tuple[int, Iterable[MiniBatch]]:
        """Return the number of batches of an epoch, and the batches."""
        self.generator.manual_seed(self.options.seed + epoch)
        return self.cells.epoch(self.rows, self.options.seed, epoch)

    def loss(self, model: nn.Module, batch: MiniBatch) -> tuple[Tensor, Tensor]:
        """Hide genes of the batch and return the loss at the targets."""
        options = self.options
        hidden_BG, targets_BG = mask_tokens(
            batch.tokens_BG,
            self.cells.n_bins,
            options.mask_prob,
            options.replace_prob,
            self.generator,
        )
        return masked_loss(model, batch, hidden_BG, targets_BG)


def masked_loss(
    model: nn.Module, batch: MiniBatch, hidden_BG: Tensor, targets_BG: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropy over targets, in nats, and their number."""
    logits_BGT = model(batch.genes_BG, hidden_BG, batch.real_BG)
    return _cross_entropy(logits_BGT, targets_BG), (targets_BG != NOT_A_TARGET).sum()


def _cross_entropy(logits_BGT: Tensor, targets_BG: Tensor) -> Tensor:
    """Return the sum over targets, in nats."""
    return functional.cross_entropy(
        logits_BGT.flatten(0, 1).float(),
        targets_BG.flatten(),
        ignore_index=NOT_A_TARGET,
        reduction="sum",
    )


class _Validation:
    """Held-out cells with masks that never change; only hidden genes are asked for."""

    def __init__(self, cells: CellBatches, rows: np.ndarray, options: Pretrain) -> None:
        self.cells = cells
        generator = torch.Generator().manual_seed(options.seed)
        self.batches = [
            (batch, *mask_tokens(batch.tokens_BG, cells.n_bins, options.mask_prob, 1.0, generator))
            for batch in cells.each(rows)
        ]
        self.n_targets = int(sum((targets != NOT_A_TARGET).sum() for _, _, targets in self.batches))
        if self.n_targets == 0:
            raise ValueError(
                f"none of the {len(rows)} held-out cells expresses a gene in bin 1 or above, so "
                "nothing can be hidden from the network. Check the counts and the vocabulary."
            )

    def score(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Return loss in nats per hidden gene, and accuracy."""
        loss = right = 0.0
        for batch, hidden_BG, targets_BG in self.batches:
            here, asked_BG = batch.to(device), targets_BG.to(device)
            logits_BGT = model(here.genes_BG, hidden_BG.to(device), here.real_BG)
            loss += float(_cross_entropy(logits_BGT, asked_BG))
            right += int((logits_BGT[..., 1:].argmax(dim=-1) + 1 == asked_BG).sum())
        return {
            "validation_loss": loss / self.n_targets,
            "validation_accuracy": right / self.n_targets,
        }

    def predictors(self, training: np.ndarray) -> dict[str, Any]:
        """Score two predictors on the same genes: what is common in the cell, and for the gene."""
        by_gene = _bins_of_genes(self.cells.store, training, self.cells.n_bins)
        targets, of_cell, of_gene = [], [], []
        for batch, hidden_BG, targets_BG in self.batches:
            cell, position = (
                index.numpy() for index in torch.nonzero(targets_BG > 0, as_tuple=True)
            )
            targets.append(targets_BG.numpy()[cell, position])
            visible = np.stack(
                [(hidden_BG == b).sum(dim=1).numpy() for b in range(1, by_gene.shape[1] + 1)],
                axis=1,
            )
            of_cell.append(visible[cell])
            of_gene.append(by_gene[batch.genes_BG.numpy()[cell, position]])
        asked, everywhere = np.concatenate(targets), by_gene.sum(axis=0)
        return {
            "cell_mode": score_bin_counts(np.concatenate(of_cell), asked, everywhere),
            "gene_mode": score_bin_counts(np.concatenate(of_gene), asked, everywhere),
        }


def _bins_of_genes(store: TokenStore, rows: np.ndarray, n_bins: int) -> np.ndarray:
    """Count how often each gene is in each bin 1 to n_bins, shape (vocabulary, bins)."""
    counts = np.zeros((store.measured.shape[1], n_bins), dtype=np.int64)
    for row in rows:
        gene, bins = store.tokens(row)
        counts[gene, bins.astype(np.int64) - 1] += 1  # a gene occurs once in a cell
    return counts
