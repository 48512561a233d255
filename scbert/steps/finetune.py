"""Step finetune: a pretrained encoder + a labelled dataset -> a model that names cell types."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from scbert.cells.genes import vocabulary_sha256
from scbert.cells.ontology import describe_types
from scbert.cells.store import TokenStore, open_store
from scbert.config import DeviceName, FinetuneSettings, Network
from scbert.evidence.epochs import merit
from scbert.evidence.held_out_types import Positions
from scbert.files import sha256_of
from scbert.network.adapters import choose_trained, merge
from scbert.network.flops import passes_of, step_flop
from scbert.network.heads import HybridHead
from scbert.network.model import CellTypeModel
from scbert.provenance import provenance
from scbert.steps.calibration import calibrate
from scbert.steps.pretrain import require_same_vocabulary
from scbert.training.batches import CellBatches, layout_of
from scbert.training.bundle import COMPONENTS, LINEAR, SEEN, Bundle, load_bundle, save_bundle
from scbert.training.checkpoint import remove_checkpoint
from scbert.training.classification import Classification, TypeLoss, macro_f1
from scbert.training.components import fit_components
from scbert.training.devices import choose_device, make_accelerator
from scbert.training.hardware import hardware
from scbert.training.labelled_rows import LabelledRows
from scbert.training.linear import LinearModel, choose_genes, fit_logistic_regression
from scbert.training.loop import fit
from scbert.training.new_models import new_head, seeded
from scbert.training.seen_cells import fingerprints
from scbert.training.task import UNIMPORTANT, Task

log = logging.getLogger(__name__)

SETBACKS = 4  # a sixteenth of the learning rate


def finetune(
    tokens: Path,
    split: Path,
    pretrained: Path,
    ontology: list[Path],
    model: Path,
    checkpoint: Path,
    settings: FinetuneSettings,
    device: DeviceName,
) -> None:
    """Train on the training cells, choose the epoch and calibrate on the validation cells.

    Test cells are in the token store, but no row of theirs is ever read here.

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
    optimizer = settings.finetune.optimizer
    accelerator = make_accelerator(choose_device(device), optimizer.precision)
    bundle, store = load_bundle(pretrained), open_store(tokens)
    require_same_vocabulary(store, vocabulary_sha256(bundle.genes), tokens)
    labelled = LabelledRows(split, store.cell_names())
    labels = describe_types(labelled.types, ontology)
    used, linear = _linear(store, labelled, bundle.config["n_bins"], settings)
    classifier = _new_classifier(bundle, linear, settings)
    learning = Classification(
        classifier,
        _batches(store, bundle, used, settings),
        labelled,
        TypeLoss(labelled.of("train")[1], settings.finetune),
        accelerator.device,
        optimizer.precision,
    )
    task = _task(learning, store, pretrained, bundle, settings)
    history = fit(task, optimizer, settings.seed, accelerator, checkpoint)
    merge(classifier)
    components = fit_components(store, labelled.rows("train"), used, settings.seed)
    train, validation = (learning.outputs(part, components) for part in ("train", "validation"))
    without = _positions_without(store, labelled, settings)
    calibration = calibrate(train, validation, labels, settings.annotate, without)
    config = _config(bundle, tokens.name, store, labelled, settings, accelerator.device)
    extra = {
        "labels": labels,
        "calibration": calibration,
        LINEAR: linear,
        COMPONENTS: components,
        SEEN: fingerprints(store, np.flatnonzero(labelled.label >= 0)),
    }
    save_bundle(model, classifier, config, _genes(bundle, store, used), history, extra)
    remove_checkpoint(checkpoint)


def _linear(
    store: TokenStore, labelled: LabelledRows, n_bins: int, settings: FinetuneSettings
) -> tuple[np.ndarray | None, LinearModel]:
    """Choose the genes that may be tokens, and fit the logistic regression on them."""
    options = settings.finetune
    train, validation = labelled.of("train"), labelled.of("validation")
    used = _used_genes(store, *train, options.variable_genes)
    given = (*train, *validation, n_bins, options.c_grid, options.class_weights, settings.seed)
    linear = fit_logistic_regression(store, *given, genes=used)
    rows, label = validation
    score = macro_f1(linear.logits(store, rows), label)
    log.info("logistic regression: C %g, validation macro F1 %.4f", linear.c, score)
    return used, linear


def _used_genes(
    store: TokenStore, rows: np.ndarray, label: np.ndarray, n_genes: int | None
) -> np.ndarray | None:
    return None if n_genes is None else choose_genes(store, rows, label, n_genes)


def _new_classifier(
    bundle: Bundle, linear: LinearModel, settings: FinetuneSettings
) -> CellTypeModel:
    """Put a new head on the pretrained encoder, and choose what of both is trained."""
    encoder, options = bundle.model.encoder, settings.finetune
    sizes = (encoder.gene.num_embeddings, len(linear.bias_C), linear.n_bins)
    head = new_head(options, bundle.config["network"]["dim"], *sizes, settings.seed)
    if isinstance(head, HybridHead):
        head.start_at(torch.from_numpy(linear.weight_CV), torch.from_numpy(linear.bias_C))
    classifier = CellTypeModel(encoder, head)
    with seeded(settings.seed):
        choose_trained(classifier, options)
    return classifier


def _batches(
    store: TokenStore, bundle: Bundle, used: np.ndarray | None, settings: FinetuneSettings
) -> CellBatches:
    """Return the cells as the pretrained encoder takes them."""
    at_once = settings.finetune.optimizer.tokens_per_batch
    return CellBatches(
        store,
        bundle.config["sequence"],
        bundle.config["n_bins"],
        at_once,
        used,
        layout_of(bundle.config["network"]),
    )


def _task(
    learning: Classification,
    store: TokenStore,
    pretrained: Path,
    bundle: Bundle,
    settings: FinetuneSettings,
) -> Task:
    """Say what is trained, and by what a checkpoint knows that it belongs here."""
    labelled, cells = learning.labelled, learning.cells
    network = Network.model_validate(bundle.config["network"])
    return Task(
        model=learning.model,
        plan=partial(cells.epoch, labelled.rows("train"), settings.seed),
        make=learning.make,
        loss=learning.loss,
        validate=learning.validate,
        name_cells=store.cell_names,
        merit=merit,
        least_first_loss=float(np.log(len(labelled.types))),
        patience=settings.finetune.patience,
        setbacks=SETBACKS,
        flop=partial(step_flop, network, passes=passes_of(learning.model.encoder)),
        identity={
            "pretrained": sha256_of(pretrained / "weights.safetensors"),  # made again, the same
            "sequence": bundle.config["sequence"],
            "tokens": store.meta,
            "split": labelled.sha256(),
            **settings.model_dump(mode="json", exclude={"finetune": UNIMPORTANT}),
        },
    )


def _positions_without(
    store: TokenStore, labelled: LabelledRows, settings: FinetuneSettings
) -> Positions:
    """Return what learns genes and components again without a type, and places all cells there."""
    (rows, label), validation = labelled.of("train"), labelled.rows("validation")

    def positions(column: int) -> tuple[np.ndarray, np.ndarray]:
        others = label != column
        used = _used_genes(store, rows[others], label[others], settings.finetune.variable_genes)
        components = fit_components(store, rows[others], used, settings.seed)
        return components.positions(store, rows), components.positions(store, validation)

    return positions


def _config(
    bundle: Bundle,
    dataset: str,
    store: TokenStore,
    labelled: LabelledRows,
    settings: FinetuneSettings,
    device: torch.device,
) -> dict[str, Any]:
    """Return the content of config.json: what the model is, and what it was made of."""
    return {
        **{key: bundle.config[key] for key in ("sequence", "network", "n_bins")},
        **settings.model_dump(mode="json"),
        "kind": "finetuned",
        "dataset": dataset,
        "cells": {part: len(labelled.rows(part)) for part in ("train", "validation")},
        "cells_per_type": labelled.count("train"),
        "tokens": store.meta,
        "pretrained": {"sha256": bundle.sha256, **bundle.config},
        "provenance": provenance() | {"hardware": hardware(device)},
    }


def _genes(bundle: Bundle, store: TokenStore, used: np.ndarray | None) -> pd.DataFrame:
    """Return the vocabulary with the genes that were measured, and those that may be tokens."""
    genes = bundle.genes.assign(measured=np.any(store.measured, axis=0))
    return genes if used is None else genes.assign(used=used)
