"""Step finetune: a pretrained encoder + a labelled dataset -> a model that names cell types."""

import hashlib
import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn
from torch.nn import functional

from scbert.cells.genes import vocabulary_sha256
from scbert.cells.ontology import describe_types
from scbert.cells.store import open_store
from scbert.cells.tables import read_table
from scbert.config import FinetuneSettings
from scbert.evidence.confidence import softmax
from scbert.evidence.novelty import Outputs
from scbert.files import sha256_of
from scbert.network.model import CellTypeModel
from scbert.provenance import provenance
from scbert.steps.calibration import calibrate
from scbert.steps.pretrain import require_same_vocabulary
from scbert.training.batches import CellBatches, MiniBatch
from scbert.training.bundle import load_bundle, new_head, save_bundle
from scbert.training.checkpoint import remove_checkpoint
from scbert.training.loop import UNIMPORTANT, Task, fit, make_accelerator
from scbert.training.predict import predict
from scbert.training.stopping import StopRequest

log = logging.getLogger(__name__)

NO_TYPE = -1


def finetune(
    tokens: Path,
    split: Path,
    pretrained: Path,
    ontology: list[Path],
    model: Path,
    checkpoint: Path,
    settings: FinetuneSettings,
) -> None:
    """Train on the training cells, choose the epoch and calibrate on the validation cells.

    Test cells are in the token store, but no row of theirs is ever read here.

    Parameters
    ----------
    ontology
        At most one table of cell types, see `describe_types`.

    Raises
    ------
    ValueError
        If tokens and encoder have different vocabularies, the split does not fit the tokens, or the
        checkpoint belongs to another run.
    """
    bundle, store = load_bundle(pretrained), open_store(tokens)
    require_same_vocabulary(store, vocabulary_sha256(bundle.genes), tokens)
    options = settings.finetune
    data = _Labelled(split, store.cell_names())
    labels = describe_types(data.classes, ontology)
    cells = CellBatches(
        store,
        bundle.config["sequence"],
        bundle.config["n_bins"],
        options.optimizer.tokens_per_batch,
    )
    dim = bundle.config["network"]["dim"]
    encoder = bundle.model.encoder
    head = new_head(options, dim, encoder.gene.num_embeddings, len(data.classes), settings.seed)
    classifier = CellTypeModel(encoder, head)
    if options.train == "head":
        classifier.encoder.requires_grad_(requires_grad=False)
    accelerator = make_accelerator(options.optimizer)
    task = Task(
        model=classifier,
        plan=partial(cells.epoch, data.rows("train"), settings.seed),
        make=cells.make,
        loss=data.loss,
        validate=partial(_validate, classifier, cells, data, accelerator.device),
        name_cells=store.cell_names,
        better="validation_macro_f1",
        patience=options.patience,
        identity={
            "pretrained": sha256_of(pretrained / "weights.safetensors"),  # made again, the same
            "sequence": bundle.config["sequence"],
            "tokens": store.meta,
            "split": data.sha256(),
            **settings.model_dump(mode="json", exclude={"finetune": UNIMPORTANT}),
        },
    )
    history = fit(task, options.optimizer, settings.seed, accelerator, checkpoint)
    outputs = partial(_outputs, classifier, cells, data, device=accelerator.device)
    calibration = calibrate(outputs("train"), outputs("validation"), labels, settings.annotate)
    config = {
        **{key: bundle.config[key] for key in ("sequence", "network", "n_bins")},
        **settings.model_dump(mode="json"),
        "kind": "finetuned",
        "dataset": tokens.name,
        "cells": {part: len(data.rows(part)) for part in ("train", "validation")},
        "tokens": store.meta,
        "pretrained": {"sha256": bundle.sha256, **bundle.config},
        "provenance": provenance(),
    }
    extra = {"labels": labels, "calibration": calibration}
    save_bundle(model, classifier, config, bundle.genes, history, extra)
    remove_checkpoint(checkpoint)


class _Labelled:
    """The cell types of the training and validation cells, by row of the token store."""

    def __init__(self, split: Path, cells: list[str]) -> None:
        table = read_table(split, "cell", "cell_type", "part").set_index("cell")
        if set(table.index) != set(cells):
            raise ValueError(
                f"{split} and the tokens hold different cells. Split the dataset again."
            )
        table = table.loc[cells]
        self.part = table.part.to_numpy()
        self.classes = sorted(table.cell_type[self.part == "train"].unique())
        number = {name: index for index, name in enumerate(self.classes)}
        hidden = table.cell_type.where(table.part != "test", "")  # test labels end here
        self.label = hidden.map(number).fillna(NO_TYPE).to_numpy(dtype=np.int64)
        for part in ("train", "validation"):
            if not len(self.rows(part)):
                raise ValueError(
                    f"{split} has no cell of part '{part}' with a type that training cells have, "
                    "but the model needs some to learn from and some to choose the epoch by. "
                    "Split the dataset again."
                )

    def sha256(self) -> str:
        """Return the SHA-256 of which cells are in which part and, but for test cells, of what."""
        seen = repr((self.classes, self.part.tolist(), self.label.tolist()))
        return hashlib.sha256(seen.encode()).hexdigest()

    def rows(self, part: str) -> np.ndarray:
        """Return the rows of a part that have a type seen in training, ascending."""
        return np.flatnonzero((self.part == part) & (self.label != NO_TYPE))

    def loss(
        self, model: nn.Module, batch: MiniBatch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of the cross-entropy over the cells of a batch, and their number."""
        del generator  # nothing but dropout is random here
        logits_BC, _ = model(batch.genes_BG, batch.tokens_BG, batch.real_BG)
        label_B = torch.from_numpy(self.label[batch.rows]).to(logits_BC.device)
        loss = functional.cross_entropy(logits_BC.float(), label_B, reduction="sum")
        return loss, torch.tensor(len(batch.rows), device=logits_BC.device)


def _validate(
    model: CellTypeModel,
    cells: CellBatches,
    data: _Labelled,
    device: torch.device,
    stop: StopRequest,
) -> dict[str, float]:
    rows = data.rows("validation")
    logits, _ = predict(model, cells, rows, device, lambda _: stop.check())
    label, predicted = data.label[rows], logits.argmax(axis=1)
    probability = softmax(logits, 1.0)[np.arange(len(rows)), label]
    return {
        "validation_loss": float(-np.log(np.maximum(probability, 1e-12)).mean()),
        "validation_accuracy": float(accuracy_score(label, predicted)),
        "validation_macro_f1": float(f1_score(label, predicted, average="macro", zero_division=0)),
    }


def _outputs(
    model: CellTypeModel, cells: CellBatches, data: _Labelled, part: str, device: torch.device
) -> Outputs:
    rows = data.rows(part)
    return Outputs(*predict(model, cells, rows, device), data.label[rows])
