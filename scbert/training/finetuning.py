"""The parts of a fine-tuning: the genes, the network, the experts, and what they say."""

import logging
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

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
from scbert.training.cell_batches import CellBatches, layout_of
from scbert.training.classification import Classification, LabelledRows, TypeLoss, choose_trained
from scbert.training.committee import ENCODER, network_of, outputs
from scbert.training.components import Components, fit_components
from scbert.training.learn_committee import Reference, learn_committee
from scbert.training.learned import Learned
from scbert.training.loop import fit
from scbert.training.saved_model import PretrainedModel
from scbert.training.state import UNIMPORTANT, Numbers, Task
from scbert.training.time_left import part_of_work

log = logging.getLogger(__name__)
SETBACKS = 10  # a thousandth of the learning rate: what still explodes is no matter of it


@dataclass(frozen=True)
class FineTuning:
    """What a fine-tuning works with: an encoder, labelled cells of a store, and its settings."""

    encoder: PretrainedModel
    store: TokenStore
    labelled: LabelledRows
    settings: FinetuneSettings

    @cached_property
    def used(self) -> np.ndarray | None:
        """The genes that the network may see, shape (V,); None: all.

        For a frozen encoder no label is looked at: its cell vectors are held out as they are. Genes
        that were added to its vocabulary, the last ones, have random vectors that nothing trains:
        it does not see them.
        """
        options, n_added = self.settings.finetune, self.encoder.config.get("added_genes", 0)
        if options.variable_genes is None:
            return None
        if options.head == "mean":
            n_known = self.store.measured.shape[1] - n_added
            values = expression_of(self.store, self.labelled.reference()[0])[:, :n_known]
            return np.pad(most_variable_genes(values, options.variable_genes), (0, n_added))
        rows, label = self.labelled.of("train")
        return choose_genes(expression_of(self.store, rows), label, options.variable_genes)

    def batches(self) -> CellBatches:
        """Return the cells as the encoder takes them."""
        config = self.encoder.config
        return CellBatches(
            self.store,
            sequence=config["sequence"],
            n_bins=config["n_bins"],
            tokens_per_batch=self.settings.finetune.optimizer.tokens_per_batch,
            genes=self.used,
            layout=layout_of(config["network"]),
        )


def trains_network(options: Finetune) -> bool:
    """Say whether the network is trained; else its encoder stays as it was pretrained."""
    return ENCODER in options.experts and options.head != "mean"


def train_network(
    tuning: FineTuning, pretrained: Path, accelerator: Accelerator, checkpoint: Path
) -> tuple[CellTypeModel, list[Numbers]]:
    """Train a head, and what of the encoder is to be trained.

    Parameters
    ----------
    pretrained
        The folder of the encoder.
    checkpoint
        Where a run that was stopped left its state.

    Returns
    -------
    The network with the weights of the best epoch, and the history.
    """
    settings, optimizer = tuning.settings, tuning.settings.finetune.optimizer
    learning = Classification(
        model=_new_classifier(tuning),
        cells=tuning.batches(),
        labelled=tuning.labelled,
        type_loss=TypeLoss(tuning.labelled.of("train")[1], settings.finetune),
        device=accelerator.device,
        precision=optimizer.precision,
    )
    task = _task(learning, tuning, pretrained)
    history = fit(task, optimizer, settings.seed, accelerator=accelerator, checkpoint=checkpoint)
    return learning.model, history


def learn_experts(
    network: MaskedExpressionModel | CellTypeModel, tuning: FineTuning, device: torch.device
) -> Learned:
    """Learn the experts; a network with a head of its own answers for validation cells alone."""
    labelled, options, cells = tuning.labelled, tuning.settings.finetune, tuning.batches()
    rows, label = labelled.reference()
    vectors, own = np.zeros((len(rows), 0), dtype=np.float32), None
    asked, precision = network_of(network).to(device), options.optimizer.precision
    if isinstance(network, CellTypeModel):
        own = np.full((len(rows), len(labelled.types)), -np.inf, dtype=np.float32)
        place = np.isin(rows, labelled.rows("validation"))
        own[place] = outputs(asked, cells, rows[place], device, precision=precision).logits
    elif ENCODER in options.experts:
        with part_of_work("encoder", len(rows), " cells") as done:
            vectors = outputs(asked, cells, rows, device, done=done, precision=precision).vectors
    batch = None if labelled.batch is None else labelled.batch[rows]
    reference = Reference(cells.store, rows, label, batch=batch, vectors_ND=vectors)
    learned = learn_committee(options.experts, reference, own, tuning.settings.seed)
    for name, share in learned.committee.shares.items():
        log.info("%s: weight %.2f", TITLES[name], share.weight)
    return learned


def out_of_fold_answers(
    tuning: FineTuning, components: Components, learned: Learned
) -> tuple[LabelledOutputs, np.ndarray]:
    """Return what experts say of validation cells that they had not learned from, and the rows.

    The finished experts would make a known cell look more familiar than it is. A cell that no
    expert could be asked about so is left out.
    """
    labelled = tuning.labelled
    (rows, label), judged = labelled.of("validation"), labelled.reference()[0][learned.judged]
    kept = np.isin(rows, judged)
    logits = learned.logits[np.searchsorted(judged, rows[kept])].astype(np.float32)
    places = components.positions(tuning.store, rows[kept])
    return LabelledOutputs(logits, places, label[kept]), rows[kept]


def _new_classifier(tuning: FineTuning) -> CellTypeModel:
    """Put a new head on the pretrained encoder, and choose what of both is trained."""
    encoder, options = tuning.encoder.network.encoder, tuning.settings.finetune
    dim, n_genes = tuning.encoder.config["network"]["dim"], encoder.gene.num_embeddings
    n_types = len(tuning.labelled.types)
    head = new_head(options, dim, n_genes, n_types, seed=tuning.settings.seed)
    classifier = CellTypeModel(encoder, head)
    choose_trained(classifier, options)
    return classifier


def _task(learning: Classification, tuning: FineTuning, pretrained: Path) -> Task:
    """Say what is trained, and by what a checkpoint knows that it belongs here."""
    labelled, config, settings = tuning.labelled, tuning.encoder.config, tuning.settings
    network = Network.model_validate(config["network"])
    return Task(
        model=learning.model,
        plan=partial(learning.cells.epoch, labelled.rows("train"), settings.seed),
        make=learning.make,
        loss=learning.loss,
        validate=learning.validate,
        name_cells=tuning.store.cell_names,
        merit=lambda record: FinetuningEpoch.of(record).merit,
        least_first_loss=float(np.log(len(labelled.types))),
        patience=settings.finetune.patience,
        setbacks=SETBACKS,
        flop=partial(step_flop, network, passes=passes_of(learning.model.encoder)),
        identity={
            "pretrained": sha256_of(pretrained / "weights.safetensors"),  # made again, the same
            "sequence": config["sequence"],
            "tokens": tuning.store.meta,
            "split": labelled.sha256(),
            **settings.model_dump(mode="json", exclude={"finetune": UNIMPORTANT}),
        },
    )


def positions_without(
    store: TokenStore, rows: np.ndarray, label: np.ndarray, *, validation: np.ndarray, seed: int
) -> Positions:
    """Return what learns the components again without a type, and places all cells there."""

    def positions(column: int) -> tuple[np.ndarray, np.ndarray]:
        components = fit_components(store, rows[label != column], seed)
        return components.positions(store, rows), components.positions(store, validation)

    return positions
