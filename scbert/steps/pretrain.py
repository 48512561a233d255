"""Step pretrain: tokens of the corpus + gene2vec -> a pretrained encoder."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from scbert.config import DeviceName, Pretrain, PretrainSettings
from scbert.evidence.pretraining_scores import PretrainingScores
from scbert.files import JsonObject, sha256_of
from scbert.genes.matching import read_vocabulary, vocabulary_sha256
from scbert.genes.vector_files import read_vectors
from scbert.network.diagnostics import diagnose_attention
from scbert.network.flops import step_flop
from scbert.network.layer_attention import LayerAttention
from scbert.network.masking import NOT_A_TARGET
from scbert.network.model import MaskedExpressionModel, gene_table, new_pretraining_model
from scbert.network.performer import compile_layers, redraw_projections
from scbert.provenance import provenance
from scbert.tokens.store import TokenStore, open_store, require_same_vocabulary
from scbert.training.bundle import Contents, save_model
from scbert.training.bundle_contents import BundleConfig
from scbert.training.cell_batches import CellBatches
from scbert.training.checkpoint import remove_checkpoint
from scbert.training.corpus import choose_validation_cells, make_masked
from scbert.training.devices import choose_device, make_accelerator
from scbert.training.hardware import hardware
from scbert.training.loop import fit
from scbert.training.mini_batch import MiniBatch
from scbert.training.processes import is_first_of_node, together
from scbert.training.reference_predictors import FILE
from scbert.training.state import UNIMPORTANT, StopRequest, Task
from scbert.training.validation_loss import ValidationLoss

log = logging.getLogger(__name__)
DIAGNOSED_CELLS = 8  # full-length cells take seconds each


def pretrain(
    tokens: Path,
    vocabulary: Path,
    gene2vec: Path,
    pretrained: Path,
    checkpoint: Path,
    settings: PretrainSettings,
    device: DeviceName,
) -> None:
    """Train the encoder to predict hidden bins, and write it as a bundle.

    Parameters
    ----------
    checkpoint
        Folder where a run that was stopped left its state, and continues from.
    device
        See `choose_device`; a run may continue on another one.

    Raises
    ------
    ValueError
        If store, vocabulary and gene vectors do not belong together, the checkpoint belongs to
        another run, or there are too few cells.
    """
    options = settings.pretrain
    accelerator = make_accelerator(choose_device(device), options.optimizer.precision)
    store, genes = open_for_all(tokens), read_vocabulary(vocabulary)
    require_same_vocabulary(store, vocabulary_sha256(genes), tokens)
    vectors = gene_table(torch.from_numpy(read_vectors(gene2vec, genes)), settings.sequence)
    compiled = options.compile and _can_be_compiled(settings, accelerator)
    model = _new_model(settings, vectors, compiled=compiled)
    cells = _batches(store, settings, compiled)
    training, held_out = choose_validation_cells(store, options)
    _say_cells(len(store), len(training), len(held_out), accelerator)
    validation = ValidationLoss(cells, held_out, training, options, kept=checkpoint / FILE)
    validate = partial(validation.score, model, accelerator.device)
    identity = _identity(store, gene2vec, settings)
    task = _task(model, cells, training, settings, validate=validate, identity=identity)
    history = fit(
        task, options.optimizer, options.seed, accelerator=accelerator, checkpoint=checkpoint
    )
    scores = _scores(model, validation, held_out, accelerator)
    if accelerator.is_main_process:
        log.info("%s", _said(scores))
        _warn_of_collapse(scores.attention)
        config, contents = _config(store, settings, accelerator.device), Contents(validation=scores)
        save_model(pretrained, model, config, genes, history=history, contents=contents)
        remove_checkpoint(checkpoint)
    accelerator.end_training()


def _said(scores: PretrainingScores) -> str:
    """Say how well hidden genes of held-out cells were guessed, and how well without a network."""
    best, skill = scores.predictors[scores.best_predictor], scores.skill
    return (
        f"{scores.masked_tokens:,} hidden genes of {scores.cells:,} held-out cells: loss "
        f"{scores.loss:.3f} nats, accuracy {scores.accuracy:.3f}; the best predictor without a "
        f"network {best.loss:.3f} and {best.accuracy:.3f}. Skill {skill.mean:.1%} "
        f"({skill.low:.1%} to {skill.high:.1%})"
    )


def _new_model(
    settings: PretrainSettings, vectors: Tensor, *, compiled: bool
) -> MaskedExpressionModel:
    n_bins, seed = settings.binning.n_bins, settings.pretrain.seed
    model = new_pretraining_model(settings.network, n_bins, vectors, seed)
    if compiled:
        compile_layers(model.encoder.performer)
    return model


def _say_cells(n_cells: int, n_training: int, n_held_out: int, accelerator: Accelerator) -> None:
    if accelerator.is_main_process:
        log.info(
            "%d cells to train on, %d held out and %d more not used, on %s x %d",
            *(n_training, n_held_out, n_cells - n_training - n_held_out),
            *(accelerator.device, accelerator.num_processes),
        )


def _task(
    model: MaskedExpressionModel,
    cells: CellBatches,
    training: np.ndarray,
    settings: PretrainSettings,
    *,
    validate: Callable[[StopRequest], dict[str, float]],
    identity: JsonObject,
) -> Task:
    """Say what is trained: hidden bins of the rows `training`, drawn anew in each epoch."""
    options = settings.pretrain
    return Task(
        model=model,
        plan=partial(cells.epoch, training, options.seed),
        make=partial(make_masked, cells, options),
        loss=masked_loss,
        validate=validate,
        name_cells=cells.store.cell_names,
        after_step=partial(_redraw, model.encoder, options),
        flop=partial(step_flop, settings.network),
        identity=identity,
    )


def _identity(store: TokenStore, gene2vec: Path, settings: PretrainSettings) -> JsonObject:
    """Return what must be the same where a run that was stopped goes on."""
    said = settings.model_dump(mode="json", exclude={"pretrain": {"compile": True, **UNIMPORTANT}})
    return {"tokens": store.meta, "gene2vec": sha256_of(gene2vec / "vectors.npy"), **said}


def _config(store: TokenStore, settings: PretrainSettings, device: torch.device) -> BundleConfig:
    return {
        **cast("BundleConfig", settings.model_dump(mode="json")),
        "kind": "pretrained",
        "n_bins": settings.binning.n_bins,
        "tokens": store.meta,
        "provenance": provenance() | {"hardware": hardware(device)},
    }


def _can_be_compiled(settings: PretrainSettings, accelerator: Accelerator) -> bool:
    """Whether every batch is one kernel over packed cells, of one shape; else say why not."""
    fused = accelerator.device.type == "cuda" and accelerator.mixed_precision == "bf16"
    if settings.network.attention == "exact" and fused:
        return True
    log.warning("pretrain.compile is not used: it needs a GPU, bf16 and network.attention: exact")
    return False


def _batches(store: TokenStore, settings: PretrainSettings, compiled: bool) -> CellBatches:
    """Return the cells: packed for exact attention, and padded for FAVOR+."""
    return CellBatches(
        store,
        settings.sequence,
        settings.binning.n_bins,
        settings.pretrain.optimizer.tokens_per_batch,
        layout="packed" if settings.network.attention == "exact" else "padded",
        constant=compiled,
    )


def open_for_all(tokens: Path) -> TokenStore:
    """Open a store of which one process of each node has read and checked every byte."""
    checked = together(partial(open_store, tokens), mine=is_first_of_node())
    return open_store(tokens, verify=False) if checked is None else checked


def _scores(
    model: MaskedExpressionModel,
    validation: ValidationLoss,
    held_out: np.ndarray,
    accelerator: Accelerator,
) -> PretrainingScores:
    """Score the hidden genes of the held-out cells, and look at the attention of each layer."""
    with accelerator.autocast():
        scores = validation.result(model, accelerator.device)
    unpacked = replace(validation.cells, layout="padded")
    attention = _diagnose(
        model, unpacked, held_out, device=accelerator.device, seed=validation.options.seed
    )
    return PretrainingScores(**vars(scores), attention=attention)


def _diagnose(
    model: MaskedExpressionModel,
    cells: CellBatches,
    rows: np.ndarray,
    *,
    device: torch.device,
    seed: int,
) -> list[LayerAttention]:
    """Measure the attention of each layer on a few held-out cells, nothing hidden."""
    not_empty = rows[cells.lengths()[rows] > 0]
    batch = cells.make(not_empty[:: -(-len(not_empty) // DIAGNOSED_CELLS)]).to(device)
    encoder = model.eval().encoder
    return diagnose_attention(encoder, batch.genes_BG, batch.tokens_BG, batch.real_BG, seed)


def _warn_of_collapse(attention: list[LayerAttention]) -> None:
    layers = [one.layer for one in attention if one.collapsed]
    if layers:
        log.warning(
            "attention has collapsed to a mean over the genes of a cell in layer %s: nearly all "
            "key features are at the floor. Set network.attention: exact, or network.qk_rms: 0.5 "
            "(docs/decisions/network.md), and pretrain again",
            ", ".join(map(str, layers)),
        )


def _redraw(encoder: nn.Module, options: Pretrain, step: int) -> None:
    if options.redraw_interval and step % options.redraw_interval == 0:
        redraw_projections(encoder.performer, options.seed + step)


def masked_loss(model: nn.Module, batch: MiniBatch) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropy over targets, in nats, and their number."""
    assert batch.targets is not None
    logits_BGT = model(batch.genes_BG, batch.tokens_BG, batch.cells)
    loss = functional.cross_entropy(
        logits_BGT.flatten(0, 1).float(),
        batch.targets.flatten(),
        ignore_index=NOT_A_TARGET,
        reduction="sum",
    )
    return loss, (batch.targets != NOT_A_TARGET).sum()
