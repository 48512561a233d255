"""The parts of a fine-tuning: the genes, the network, the experts, and what they say."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from tqdm import tqdm

from scbert.calibration.novelty import LabelledOutputs
from scbert.calibration.novelty_threshold import Positions
from scbert.config import Finetune, FinetuneSettings, Network
from scbert.evidence.history import FinetuningEpoch
from scbert.experts.linear import choose_genes, expression_of, most_variable_genes
from scbert.experts.titles import EXPERT_TITLES as TITLES
from scbert.files import sha256_of
from scbert.network.flops import passes_of, step_flop
from scbert.network.model import CellTypeModel, MaskedExpressionModel, new_head
from scbert.tokens.store import TokenStore
from scbert.training.batches import CellBatches, layout_of
from scbert.training.classification import Classification, LabelledRows, TypeLoss, choose_trained
from scbert.training.committee import ENCODER, network_of, outputs
from scbert.training.components import Components, fit_components
from scbert.training.learn_committee import Learned, Reference, learn_committee
from scbert.training.loop import fit
from scbert.training.saved_model import PretrainedModel
from scbert.training.state import UNIMPORTANT, Task

log = logging.getLogger(__name__)
SETBACKS = 10  # a thousandth of the learning rate: what still explodes is no matter of it


def trains_network(options: Finetune) -> bool:
    """Say whether the network is trained; else its encoder stays as it was pretrained."""
    return ENCODER in options.experts and options.head != "mean"


def used_genes(
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


def train_network(
    pretrained_model: PretrainedModel,
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
        _new_classifier(pretrained_model, len(labelled.types), settings),
        encoder_batches(store, pretrained_model, used, settings),
        labelled,
        TypeLoss(labelled.of("train")[1], settings.finetune),
        accelerator.device,
        optimizer.precision,
    )
    task = _task(learning, store, pretrained, pretrained_model, settings)
    history = fit(task, optimizer, settings.seed, accelerator, checkpoint)
    return learning.model, history


def learn_experts(
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


def out_of_fold_answers(
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


def _new_classifier(
    pretrained_model: PretrainedModel, n_types: int, settings: FinetuneSettings
) -> CellTypeModel:
    """Put a new head on the pretrained encoder, and choose what of both is trained."""
    encoder, options = pretrained_model.network.encoder, settings.finetune
    dim, n_genes = pretrained_model.config["network"]["dim"], encoder.gene.num_embeddings
    classifier = CellTypeModel(encoder, new_head(options, dim, n_genes, n_types, settings.seed))
    choose_trained(classifier, options)
    return classifier


def encoder_batches(
    store: TokenStore,
    pretrained_model: PretrainedModel,
    used: np.ndarray | None,
    settings: FinetuneSettings,
) -> CellBatches:
    """Return the cells as the pretrained encoder takes them."""
    config = pretrained_model.config
    return CellBatches(
        store,
        sequence=config["sequence"],
        n_bins=config["n_bins"],
        tokens_per_batch=settings.finetune.optimizer.tokens_per_batch,
        genes=used,
        layout=layout_of(config["network"]),
    )


def _task(
    learning: Classification,
    store: TokenStore,
    pretrained: Path,
    pretrained_model: PretrainedModel,
    settings: FinetuneSettings,
) -> Task:
    """Say what is trained, and by what a checkpoint knows that it belongs here."""
    labelled, cells = learning.labelled, learning.cells
    network = Network.model_validate(pretrained_model.config["network"])
    return Task(
        model=learning.model,
        plan=partial(cells.epoch, labelled.rows("train"), settings.seed),
        make=learning.make,
        loss=learning.loss,
        validate=learning.validate,
        name_cells=store.cell_names,
        merit=lambda record: FinetuningEpoch.of(record).merit,
        least_first_loss=float(np.log(len(labelled.types))),
        patience=settings.finetune.patience,
        setbacks=SETBACKS,
        flop=partial(step_flop, network, passes=passes_of(learning.model.encoder)),
        identity={
            "pretrained": sha256_of(pretrained / "weights.safetensors"),  # made again, the same
            "sequence": pretrained_model.config["sequence"],
            "tokens": store.meta,
            "split": labelled.sha256(),
            **settings.model_dump(mode="json", exclude={"finetune": UNIMPORTANT}),
        },
    )


def positions_without(
    store: TokenStore, rows: np.ndarray, label: np.ndarray, validation: np.ndarray, seed: int
) -> Positions:
    """Return what learns the components again without a type, and places all cells there."""

    def positions(column: int) -> tuple[np.ndarray, np.ndarray]:
        components = fit_components(store, rows[label != column], seed)
        return components.positions(store, rows), components.positions(store, validation)

    return positions
