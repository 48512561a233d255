"""Rule finetune_training_cells: a pretrained encoder + a labelled dataset -> a model."""

import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch

from scbert.calibration.calibrate import NOT_CALIBRATED, calibrate
from scbert.calibration.fitted import ModelCalibration
from scbert.calibration.novelty import LabelledOutputs
from scbert.calibration.novelty_threshold import KnownCells, NoveltyCells
from scbert.cells.cautions import say
from scbert.cells.learned_labels import cautions_of_learning, types_not_learned
from scbert.config import DeviceName, FinetuneSettings
from scbert.experts.out_of_fold import leaves_batches_out
from scbert.genes.cell_types import describe_types
from scbert.genes.matching import vocabulary_sha256
from scbert.network.model import CellTypeModel, MaskedExpressionModel
from scbert.provenance import provenance
from scbert.tables import read_table
from scbert.tokens.store import open_store, require_same_vocabulary
from scbert.training.bundle import Contents, load_pretrained, save_model
from scbert.training.bundle_contents import BundleConfig
from scbert.training.checkpoint import remove_checkpoint
from scbert.training.classification import LabelledRows
from scbert.training.components import (
    FEWEST_BATCHES,
    SCORE,
    Components,
    fit_components,
    novelty_left_out,
)
from scbert.training.devices import choose_device, make_accelerator
from scbert.training.finetuning import (
    FineTuning,
    learn_experts,
    out_of_fold_answers,
    positions_without,
    train_network,
    trains_network,
)
from scbert.training.hardware import hardware
from scbert.training.learned import Learned
from scbert.training.seen_cells import seen_cells
from scbert.training.state import Numbers
from scbert.training.time_left import part_of_work

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
    tuning = _read(tokens, split, pretrained, settings)
    labels = describe_types(tuning.labelled.types, ontology)
    cells = Counter(read_table(split, "cell_type").cell_type)
    say(types_not_learned(cells, tuning.labelled.types), model.name, log)
    network: MaskedExpressionModel | CellTypeModel = tuning.encoder.network
    history: list[Numbers] = []
    if trains_network(settings.finetune):
        network, history = train_network(tuning, pretrained, accelerator, checkpoint)
    learned = learn_experts(network, tuning, accelerator.device)
    with part_of_work("new types"):
        components, calibration = _calibrate(tuning, labels, learned)
    config = _config(tuning, tokens.name, accelerator.device)
    say(cautions_of_learning(calibration, len(labels), config["cells"]), model.name, log)
    contents = Contents(
        labels=labels,
        calibration=calibration,
        experts=learned.committee.experts,
        components=components,
        seen=seen_cells(tuning.store, np.flatnonzero(tuning.labelled.label >= 0)),
    )
    save_model(model, network, config, _genes(tuning), history=history, contents=contents)
    remove_checkpoint(checkpoint)


def _read(tokens: Path, split: Path, pretrained: Path, settings: FinetuneSettings) -> FineTuning:
    encoder, store = load_pretrained(pretrained), open_store(tokens)
    require_same_vocabulary(store, vocabulary_sha256(encoder.genes), tokens)
    teaching = ("train",) if trains_network(settings.finetune) else ("train", "validation")
    return FineTuning(encoder, store, LabelledRows(split, store.cell_names(), teaching), settings)


def _calibrate(
    tuning: FineTuning, labels: list[dict[str, str]], learned: Learned
) -> tuple[Components, ModelCalibration]:
    """Return the components by which new types are noticed, and what held-out answers calibrate."""
    store, settings, left_out = tuning.store, tuning.settings, _left_out(tuning)
    rows, label = _near(tuning.labelled, left_out)
    components = fit_components(store, rows, settings.seed)
    validation, judged = out_of_fold_answers(tuning, components, learned)
    if not len(judged):
        return components, {**NOT_CALIBRATED, **learned.summary()}
    # The model's answers for training cells are of no use, only where they lie.
    nothing = np.zeros((len(rows), len(labels)))
    cells = NoveltyCells(
        training=LabelledOutputs(nothing, components.positions(store, rows), label),
        validation=validation,
        positions_without=positions_without(
            store, rows, label, validation=judged, seed=settings.seed
        ),
        left_out=left_out,
    )
    found = calibrate(
        learned.logits, learned.label, cells, labels=labels, settings=settings.annotate
    )
    return components, {**found, **learned.summary()}


def _near(labelled: LabelledRows, left_out: KnownCells | None) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and types of the cells that new ones are held against.

    Validation cells are among them where others fit the threshold, or none else has their type.
    """
    rows, label = labelled.of("train")
    if left_out is None and len(set(label)) == len(labelled.types):
        return rows, label
    return labelled.reference()


def _left_out(tuning: FineTuning) -> KnownCells | None:
    """Return the cells that fit the novelty threshold; None: the validation cells do.

    Those of batches that are left out. Where no batch shares a type with another, and training
    cells lack types, cells of each type that are left out.
    """
    labelled, settings = tuning.labelled, tuning.settings
    if settings.annotate.novelty_score != SCORE:
        return None
    rows, label = labelled.reference()
    score = partial(novelty_left_out, tuning.store, rows, label, seed=settings.seed)
    batch = None if labelled.batch is None else labelled.batch[rows]
    if leaves_batches_out(batch, FEWEST_BATCHES) and (found := score(batch=batch)):
        return found
    # Where training cells lack a type, the components are learned from validation cells, too.
    return score(batch=None) if len(set(labelled.of("train")[1])) < len(labelled.types) else None


def _config(tuning: FineTuning, dataset: str, device: torch.device) -> BundleConfig:
    """Return the content of config.json: what the model is, and what it was made of."""
    encoder, labelled = tuning.encoder, tuning.labelled
    return {
        "sequence": encoder.config["sequence"],
        "network": encoder.config["network"],
        "n_bins": encoder.config["n_bins"],
        **cast("BundleConfig", tuning.settings.model_dump(mode="json")),
        "kind": "finetuned",
        "dataset": dataset,
        "cells": {part: len(labelled.rows(part)) for part in ("train", "validation")},
        "cells_per_type": labelled.taught(),
        "tokens": tuning.store.meta,
        "pretrained": {"sha256": encoder.sha256, **encoder.config},
        "provenance": provenance() | {"hardware": hardware(device)},
    }


def _genes(tuning: FineTuning) -> pd.DataFrame:
    """Return the vocabulary with the genes that were measured, and those that may be tokens."""
    genes = tuning.encoder.genes.assign(measured=np.any(tuning.store.measured, axis=0))
    return genes if tuning.used is None else genes.assign(used=tuning.used)
