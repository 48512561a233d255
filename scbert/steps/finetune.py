"""Step finetune: a pretrained encoder + a labelled dataset -> a model that names cell types."""

import hashlib
import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn

from scbert.cells.genes import vocabulary_sha256
from scbert.cells.ontology import describe_types
from scbert.cells.store import TokenStore, open_store
from scbert.cells.tables import read_table
from scbert.config import FinetuneSettings
from scbert.evidence.confidence import fit_share, softmax
from scbert.evidence.novelty import LabelledOutputs
from scbert.files import sha256_of
from scbert.network.adapters import choose_trained, merge
from scbert.network.heads import HybridHead
from scbert.network.model import CellTypeModel
from scbert.provenance import provenance
from scbert.steps.calibration import calibrate
from scbert.steps.pretrain import require_same_vocabulary
from scbert.training.batches import CellBatches, MiniBatch
from scbert.training.bundle import LINEAR, Bundle, load_bundle, new_head, save_bundle, seeded
from scbert.training.checkpoint import remove_checkpoint
from scbert.training.classification import TypeLoss
from scbert.training.linear import LinearModel, choose_genes, fit_logistic_regression
from scbert.training.loop import UNIMPORTANT, Task, fit, make_accelerator
from scbert.training.predict import outputs, predict
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
    used, linear = _linear(store, data, bundle.config["n_bins"], settings)
    cells = CellBatches(
        store,
        bundle.config["sequence"],
        bundle.config["n_bins"],
        options.optimizer.tokens_per_batch,
        used,
    )
    classifier = _new_classifier(bundle, linear, settings)
    accelerator = make_accelerator(options.optimizer)
    task = Task(
        model=classifier,
        plan=partial(cells.epoch, data.rows("train"), settings.seed),
        make=cells.make,
        loss=partial(_loss, TypeLoss(data.label[data.rows("train")], options), data.label),
        validate=partial(_validate, classifier, cells, data, accelerator.device),
        name_cells=store.cell_names,
        better="validation_macro_f1",
        least_first_loss=float(np.log(len(data.classes))),
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
    merge(classifier)
    told = partial(_outputs, classifier, cells, data, device=accelerator.device)
    calibration = calibrate(told("train"), told("validation"), labels, settings.annotate)
    config = {
        **{key: bundle.config[key] for key in ("sequence", "network", "n_bins")},
        **settings.model_dump(mode="json"),
        "kind": "finetuned",
        "dataset": tokens.name,
        "cells": {part: len(data.rows(part)) for part in ("train", "validation")},
        "cells_per_type": data.count("train"),
        "tokens": store.meta,
        "pretrained": {"sha256": bundle.sha256, **bundle.config},
        "provenance": provenance(),
    }
    extra = {"labels": labels, "calibration": calibration, LINEAR: linear}
    genes = bundle.genes.assign(measured=np.any(store.measured, axis=0))
    if used is not None:
        genes = genes.assign(used=used)
    save_bundle(model, classifier, config, genes, history, extra)
    remove_checkpoint(checkpoint)


def _linear(
    store: TokenStore, data: "_Labelled", n_bins: int, settings: FinetuneSettings
) -> tuple[np.ndarray | None, LinearModel]:
    """Choose the genes that may be tokens, and fit the logistic regression on them."""
    options = settings.finetune
    rows, validation = data.rows("train"), data.rows("validation")
    used = None
    if options.variable_genes is not None:
        used = choose_genes(store, rows, data.label[rows], options.variable_genes)
    labelled = (rows, data.label[rows], validation, data.label[validation])
    linear = fit_logistic_regression(
        store, *labelled, n_bins, options.c_grid, options.class_weights, settings.seed, genes=used
    )
    predicted = linear.logits(store, validation).argmax(axis=1)
    score = f1_score(data.label[validation], predicted, average="macro", zero_division=0)
    log.info("logistic regression: C %g, validation macro F1 %.4f", linear.c, score)
    return used, linear


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

    def count(self, part: str) -> dict[str, int]:
        """Return the number of cells of each type in a part."""
        found = np.bincount(self.label[self.rows(part)], minlength=len(self.classes))
        return dict(zip(self.classes, found.tolist(), strict=True))

    def rows(self, part: str) -> np.ndarray:
        """Return the rows of a part that have a type seen in training, ascending."""
        return np.flatnonzero((self.part == part) & (self.label != NO_TYPE))


def _loss(
    loss: TypeLoss,
    label: np.ndarray,
    model: nn.Module,
    batch: MiniBatch,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of the loss over the cells of a batch, and that of the weights."""
    del generator  # nothing but dropout is random here
    assert isinstance(model, CellTypeModel)
    label_B = torch.from_numpy(label[batch.rows]).to(batch.genes_BG.device)
    given = (batch.genes_BG, batch.tokens_BG, batch.real_BG)
    if isinstance(model, CellTypeModel) and isinstance(model.head, HybridHead):
        total = loss.of_halves(model.head.halves(model.encoder(*given), *given), label_B)
    else:
        total = loss(model(*given)[0], label_B)
    return total, loss.weight(label_B)


def _validate(
    model: CellTypeModel,
    cells: CellBatches,
    data: _Labelled,
    device: torch.device,
    stop: StopRequest,
) -> dict[str, float]:
    rows = data.rows("validation")
    label = data.label[rows]
    found = outputs(model, cells, rows, device, lambda _: stop.check())
    logits, more = found.logits, {}
    if isinstance(model.head, HybridHead):
        expression, encoder = found.halves["expression"], found.halves["encoder"]
        share = fit_share(expression, encoder, label)
        model.head.share.fill_(share)
        logits, more = expression + share * encoder, {"encoder_share": share}
    probability = softmax(logits, 1.0)[np.arange(len(rows)), label]
    named = {"": logits} | {f"_{half}": own for half, own in found.halves.items()}
    return {
        "validation_loss": float(-np.log(np.maximum(probability, 1e-12)).mean()),
        "validation_accuracy": float(accuracy_score(label, logits.argmax(axis=1))),
        **{
            f"validation_macro_f1{half}": float(
                f1_score(label, own.argmax(axis=1), average="macro", zero_division=0)
            )
            for half, own in named.items()
        },
        **more,
    }


def _outputs(
    model: CellTypeModel, cells: CellBatches, data: _Labelled, part: str, device: torch.device
) -> LabelledOutputs:
    rows = data.rows(part)
    return LabelledOutputs(*predict(model, cells, rows, device), data.label[rows])
