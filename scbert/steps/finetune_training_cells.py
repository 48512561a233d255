"""Rule finetune_training_cells: a pretrained encoder + a labelled dataset -> a model."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from scbert.calibration.calibrate import NOT_CALIBRATED, calibrate
from scbert.calibration.fitted import Calibration, ModelCalibration
from scbert.calibration.novelty import LabelledOutputs
from scbert.calibration.novelty_threshold import KnownCells
from scbert.cells.cautions import say
from scbert.cells.labels import cautions_of_learning
from scbert.config import DeviceName, FinetuneSettings
from scbert.genes.cell_types import describe_types
from scbert.genes.matching import vocabulary_sha256
from scbert.network.model import CellTypeModel, MaskedExpressionModel
from scbert.provenance import provenance
from scbert.tokens.store import TokenStore, open_store, require_same_vocabulary
from scbert.training.bundle import COMPONENTS, EXPERTS, SEEN, load_pretrained, save_model
from scbert.training.checkpoint import remove_checkpoint
from scbert.training.classification import LabelledRows
from scbert.training.components import (
    SCORE,
    Components,
    fit_components,
    novelty_left_out,
)
from scbert.training.devices import choose_device, make_accelerator
from scbert.training.finetuning import (
    encoder_batches,
    learn_experts,
    out_of_fold_answers,
    positions_without,
    train_network,
    trains_network,
    used_genes,
)
from scbert.training.hardware import hardware
from scbert.training.learn_committee import Learned
from scbert.training.saved_model import PretrainedModel
from scbert.training.seen_cells import seen_cells

log = logging.getLogger(__name__)


def finetune_training_cells(
    tokens: Path,
    split: Path,
    pretrained: Path,
    ontology: list[Path],
    model: Path,
    checkpoint: Path,
    settings: FinetuneSettings,
    device: DeviceName,
) -> None:
    """Learn the experts from training and validation cells, and calibrate on held-out answers.

    A head of the network's own, where one is trained, learns from the training cells; validation
    cells choose its epoch. Test cells are in the token store, but no row of theirs is ever read.

    Parameters
    ----------
    ontology
        At most one table of cell types, see `describe_types`.
    device
        See `choose_device`; a run may continue on another one.

    Raises
    ------
    ValueError
        If tokens and encoder have different vocabularies, the split does not fit the tokens, or the
        checkpoint belongs to another run.
    """
    precision = settings.finetune.optimizer.precision
    accelerator = make_accelerator(choose_device(device), precision)
    encoder, store = load_pretrained(pretrained), open_store(tokens)
    require_same_vocabulary(store, vocabulary_sha256(encoder.genes), tokens)
    trained = trains_network(settings.finetune)
    teaching = ("train",) if trained else ("train", "validation")
    labelled = LabelledRows(split, store.cell_names(), teaching)
    labels = describe_types(labelled.types, ontology)
    used = used_genes(store, labelled, settings, encoder.config.get("added_genes", 0))
    network: MaskedExpressionModel | CellTypeModel = encoder.network
    history: list[dict[str, Any]] = []
    if trained:
        network, history = train_network(
            encoder, store, labelled, used, settings, pretrained, accelerator, checkpoint
        )
    cells = encoder_batches(store, encoder, used, settings)
    learned = learn_experts(network, cells, labelled, settings, accelerator.device)
    components, fitted = _calibrate(store, labelled, labels, learned, settings)
    calibration: ModelCalibration = {**fitted, **learned.summary()}
    config = _config(encoder, tokens.name, store, labelled, settings, accelerator.device)
    say(cautions_of_learning(calibration, len(labels), config["cells"]), model.name, log)
    extra = {
        "labels": labels,
        "calibration": calibration,
        EXPERTS: learned.committee.experts,
        COMPONENTS: components,
        SEEN: seen_cells(store, np.flatnonzero(labelled.label >= 0)),
    }
    if not learned.committee.experts:
        del extra[EXPERTS]
    save_model(model, network, config, _genes(encoder, store, used), history, extra)
    remove_checkpoint(checkpoint)


def _calibrate(
    store: TokenStore,
    labelled: LabelledRows,
    labels: list[dict[str, str]],
    learned: Learned,
    settings: FinetuneSettings,
) -> tuple[Components, Calibration]:
    """Return the components by which new types are noticed, and what held-out answers calibrate."""
    left_out = _left_out(store, labelled, settings)
    rows, label = _near(labelled, left_out)
    components = fit_components(store, rows, settings.seed)
    # What the model says of these cells is of no use, only where they lie.
    nothing = np.zeros((len(rows), len(labels)))
    train = LabelledOutputs(nothing, components.positions(store, rows), label)
    validation, judged = out_of_fold_answers(store, labelled, components, learned)
    if not len(judged):
        return components, NOT_CALIBRATED
    without = positions_without(store, rows, label, judged, settings.seed)
    return components, calibrate(
        logits=learned.logits,
        label=learned.label,
        training=train,
        validation=validation,
        labels=labels,
        settings=settings.annotate,
        positions_without=without,
        left_out=left_out,
    )


def _near(labelled: LabelledRows, left_out: KnownCells | None) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and types of the cells that new ones are held against.

    Validation cells are among them where others fit the threshold, or none else has their type.
    """
    rows, label = labelled.of("train")
    if left_out is None and len(set(label)) == len(labelled.types):
        return rows, label
    return labelled.reference()


def _left_out(
    store: TokenStore, labelled: LabelledRows, settings: FinetuneSettings
) -> KnownCells | None:
    """Return the cells that fit the novelty threshold; None: the validation cells do."""
    if settings.annotate.novelty_score != SCORE:
        return None
    rows, label = labelled.reference()
    batch = None if labelled.batch is None else labelled.batch[rows]
    return novelty_left_out(store, rows, label, batch, settings.seed)


def _config(
    encoder: PretrainedModel,
    dataset: str,
    store: TokenStore,
    labelled: LabelledRows,
    settings: FinetuneSettings,
    device: torch.device,
) -> dict[str, Any]:
    """Return the content of config.json: what the model is, and what it was made of."""
    return {
        **{key: encoder.config[key] for key in ("sequence", "network", "n_bins")},
        **settings.model_dump(mode="json"),
        "kind": "finetuned",
        "dataset": dataset,
        "cells": {part: len(labelled.rows(part)) for part in ("train", "validation")},
        "cells_per_type": labelled.count("train"),
        "tokens": store.meta,
        "pretrained": {"sha256": encoder.sha256, **encoder.config},
        "provenance": provenance() | {"hardware": hardware(device)},
    }


def _genes(encoder: PretrainedModel, store: TokenStore, used: np.ndarray | None) -> pd.DataFrame:
    """Return the vocabulary with the genes that were measured, and those that may be tokens."""
    genes = encoder.genes.assign(measured=np.any(store.measured, axis=0))
    return genes if used is None else genes.assign(used=used)
