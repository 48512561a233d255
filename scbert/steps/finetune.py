"""Step finetune: a pretrained encoder + a labelled dataset -> a model that names cell types."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from tqdm import tqdm

from scbert.cells.genes import vocabulary_sha256
from scbert.cells.ontology import describe_types
from scbert.cells.store import TokenStore, open_store
from scbert.config import DeviceName, Finetune, FinetuneSettings, Network
from scbert.evidence.card_experts import NAMES as TITLES
from scbert.evidence.epochs import merit
from scbert.evidence.held_out_types import Positions
from scbert.evidence.novelty import LabelledOutputs
from scbert.evidence.refusal import KnownCells
from scbert.experts.linear import choose_genes, expression_of, most_variable_genes
from scbert.files import sha256_of
from scbert.network.flops import passes_of, step_flop
from scbert.network.model import CellTypeModel, MaskedExpressionModel
from scbert.provenance import provenance
from scbert.steps.calibration import calibrate
from scbert.steps.pretrain import require_same_vocabulary
from scbert.training.batches import CellBatches, layout_of
from scbert.training.bundle import COMPONENTS, EXPERTS, SEEN, Bundle, load_bundle, save_bundle
from scbert.training.checkpoint import remove_checkpoint
from scbert.training.classification import Classification, TypeLoss, choose_trained
from scbert.training.committee import ENCODER, network_of
from scbert.training.components import Components, fit_components
from scbert.training.devices import choose_device, make_accelerator
from scbert.training.hardware import hardware
from scbert.training.labelled_rows import LabelledRows
from scbert.training.learn_committee import Learned, Reference, learn_committee
from scbert.training.left_out_batches import SCORE, novelty_left_out
from scbert.training.loop import fit
from scbert.training.new_models import new_head
from scbert.training.predict import outputs
from scbert.training.seen_cells import fingerprints
from scbert.training.task import UNIMPORTANT, Task

log = logging.getLogger(__name__)

SETBACKS = 10  # a thousandth of the learning rate: what still explodes is no matter of it


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
    bundle, store = load_bundle(pretrained), open_store(tokens)
    require_same_vocabulary(store, vocabulary_sha256(bundle.genes), tokens)
    labelled = LabelledRows(split, store.cell_names())
    labels = describe_types(labelled.types, ontology)
    used = _used_genes(store, labelled, settings, bundle.config.get("added_genes", 0))
    network = bundle.model
    history: list[dict[str, Any]] = []
    if trains_network(settings.finetune):
        network, history = _train_network(
            bundle, store, labelled, used, settings, pretrained, accelerator, checkpoint
        )
    cells = _batches(store, bundle, used, settings)
    learned = _learn(network, cells, labelled, settings, accelerator.device)
    components = fit_components(store, labelled.rows("train"), None, settings.seed)
    train = _training(store, labelled, components)
    validation, judged = _held_out(store, labelled, components, learned)
    without = _positions_without(store, labelled, judged, settings)
    found = (learned.logits, learned.label)
    left_out = _left_out(store, labelled, settings)
    calibration = calibrate(*found, train, validation, labels, settings.annotate, without, left_out)
    extra = {
        "labels": labels,
        "calibration": calibration | learned.summary(),
        EXPERTS: learned.committee.experts,
        COMPONENTS: components,
        SEEN: fingerprints(store, np.flatnonzero(labelled.label >= 0)),
    }
    if not learned.committee.experts:
        del extra[EXPERTS]
    config = _config(bundle, tokens.name, store, labelled, settings, accelerator.device)
    save_bundle(model, network, config, _genes(bundle, store, used), history, extra)
    remove_checkpoint(checkpoint)


def trains_network(options: Finetune) -> bool:
    """Say whether the network is trained; else its encoder stays as it was pretrained."""
    return ENCODER in options.experts and options.head != "mean"


def _used_genes(
    store: TokenStore, labelled: LabelledRows, settings: FinetuneSettings, n_added: int
) -> np.ndarray | None:
    """Choose the genes that the network may see; None: all.

    For a frozen encoder no label is looked at: its cell vectors are held out as they are. Genes
    that were added to its vocabulary, the last `n_added`, have random vectors that nothing trains:
    it does not see them.
    """
    options = settings.finetune
    if options.variable_genes is None:
        return None
    if options.head == "mean":
        known = np.arange(store.measured.shape[1]) < store.measured.shape[1] - n_added
        values = expression_of(store, labelled.reference()[0])[:, known]
        return np.pad(most_variable_genes(values, options.variable_genes), (0, n_added))
    rows, label = labelled.of("train")
    return choose_genes(expression_of(store, rows), label, options.variable_genes)


def _train_network(
    bundle: Bundle,
    store: TokenStore,
    labelled: LabelledRows,
    used: np.ndarray | None,
    settings: FinetuneSettings,
    pretrained: Path,
    accelerator: Accelerator,
    checkpoint: Path,
) -> tuple[CellTypeModel, list[dict[str, Any]]]:
    """Train a head, and what of the encoder is to be trained; return the best epoch's weights."""
    optimizer = settings.finetune.optimizer
    learning = Classification(
        _new_classifier(bundle, len(labelled.types), settings),
        _batches(store, bundle, used, settings),
        labelled,
        TypeLoss(labelled.of("train")[1], settings.finetune),
        accelerator.device,
        optimizer.precision,
    )
    task = _task(learning, store, pretrained, bundle, settings)
    history = fit(task, optimizer, settings.seed, accelerator, checkpoint)
    return learning.model, history


def _learn(
    network: MaskedExpressionModel | CellTypeModel,
    cells: CellBatches,
    labelled: LabelledRows,
    settings: FinetuneSettings,
    device: torch.device,
) -> Learned:
    """Learn the experts; a network with a head of its own answers for validation cells alone."""
    rows, label = labelled.reference()
    experts, precision = settings.finetune.experts, settings.finetune.optimizer.precision
    vectors, own = np.zeros((len(rows), 0), dtype=np.float32), None
    asked = network_of(network).to(device)
    if isinstance(network, CellTypeModel):
        own = np.full((len(rows), len(labelled.types)), -np.inf, dtype=np.float32)
        place = np.isin(rows, labelled.rows("validation"))
        own[place] = outputs(asked, cells, rows[place], device, precision=precision).logits
    elif ENCODER in experts:
        with tqdm(total=len(rows), desc="encoder", unit=" cells", disable=None) as bar:
            vectors = outputs(asked, cells, rows, device, bar.update, precision=precision).vectors
    batch = None if labelled.batch is None else labelled.batch[rows]
    reference = Reference(cells.store, rows, label, batch, vectors)
    learned = learn_committee(experts, reference, own, settings.seed)
    for name, share in learned.committee.shares.items():
        log.info("%s: weight %.2f", TITLES[name], share.weight)
    return learned


def _training(store: TokenStore, labelled: LabelledRows, components: Components) -> LabelledOutputs:
    """Return where the training cells lie; what the model says of them is of no use."""
    rows, label = labelled.of("train")
    nothing = np.zeros((len(rows), len(labelled.types)))
    return LabelledOutputs(nothing, components.positions(store, rows), label)


def _held_out(
    store: TokenStore, labelled: LabelledRows, components: Components, learned: Learned
) -> tuple[LabelledOutputs, np.ndarray]:
    """Return what experts say of validation cells that they had not learned from, and the rows.

    The finished experts would make a known cell look more familiar than it is. A cell that no
    expert could be asked about so is left out.
    """
    (rows, label), judged = labelled.of("validation"), labelled.reference()[0][learned.judged]
    kept = np.isin(rows, judged)
    logits = learned.logits[np.searchsorted(judged, rows[kept])].astype(np.float32)
    places = components.positions(store, rows[kept])
    return LabelledOutputs(logits, places, label[kept]), rows[kept]


def _new_classifier(bundle: Bundle, n_types: int, settings: FinetuneSettings) -> CellTypeModel:
    """Put a new head on the pretrained encoder, and choose what of both is trained."""
    encoder, options = bundle.model.encoder, settings.finetune
    sizes = (bundle.config["network"]["dim"], encoder.gene.num_embeddings, n_types)
    classifier = CellTypeModel(encoder, new_head(options, *sizes, settings.seed))
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
    store: TokenStore, labelled: LabelledRows, validation: np.ndarray, settings: FinetuneSettings
) -> Positions:
    """Return what learns the components again without a type, and places all cells there."""
    rows, label = labelled.of("train")

    def positions(column: int) -> tuple[np.ndarray, np.ndarray]:
        components = fit_components(store, rows[label != column], None, settings.seed)
        return components.positions(store, rows), components.positions(store, validation)

    return positions


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
