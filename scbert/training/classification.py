"""How a classifier of cell types is trained and judged: its weights, its loss, its score.

Shape letters: B cells in a mini-batch, C cell types.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn
from torch.nn import functional

from scbert.config import Finetune, Precision
from scbert.evidence.confidence import softmax
from scbert.network.model import CellTypeModel, Encoder
from scbert.training.batches import CellBatches
from scbert.training.labelled_rows import LabelledRows
from scbert.training.mini_batch import MiniBatch
from scbert.training.predict import outputs
from scbert.training.stopping import StopRequest


def choose_trained(model: CellTypeModel, options: Finetune) -> None:
    """Freeze what of the encoder is not to be trained; the head always is.

    Raises
    ------
    ValueError
        If train is original and the encoder has a single layer.
    """
    encoder = model.encoder
    genes_were_trained = encoder.gene.weight.requires_grad
    encoder.requires_grad_(requires_grad=options.train == "all")
    if options.train == "original":  # its finetune.py: the last but one, the last stays frozen
        _last_but_one(encoder).requires_grad_(requires_grad=True)
        encoder.norm.requires_grad_(requires_grad=True)
    kept = genes_were_trained and options.train == "all"
    trained = {"keep": kept, "frozen": False, "trainable": True}[options.gene_identity]
    encoder.gene.requires_grad_(requires_grad=trained)


def _last_but_one(encoder: Encoder) -> nn.Module:
    layers = encoder.performer.net.layers
    if len(layers) < 2:
        raise ValueError(
            f"finetune.train is original, which trains the last layer but one, but the encoder has "
            f"{len(layers)}. Choose train: all or head."
        )
    return layers[-2]


class TypeLoss(nn.Module):
    """Cross-entropy of logits, adjusted and weighted by how common each type is in training.

    Parameters
    ----------
    label
        The type of each training cell, 0 to C - 1, each there at least once.

    Logit adjustment adds tau x log(share of the type) to the logits while training and nothing
    later (Menon et al. 2021). Balanced weights are n / (C n_c), with mean 1 over the training
    cells.
    """

    adjustment_C: Tensor
    weight_C: Tensor

    def __init__(self, label: np.ndarray, options: Finetune) -> None:
        super().__init__()
        n_C = np.bincount(label)
        adjustment_C = options.logit_adjustment * np.log(n_C / n_C.sum())
        balanced = options.class_balance == "balanced"
        weight_C = n_C.sum() / (len(n_C) * n_C) if balanced else np.ones(len(n_C))
        self.register_buffer("adjustment_C", torch.tensor(adjustment_C).float())
        self.register_buffer("weight_C", torch.tensor(weight_C).float())

    def forward(self, logits_BC: Tensor, label_B: Tensor) -> Tensor:
        """Return the weighted sum over the cells."""
        adjusted_BC = logits_BC.float() + self.adjustment_C
        loss_B = functional.cross_entropy(adjusted_BC, label_B, reduction="none")
        return (self.weight_C[label_B] * loss_B).sum()

    def weight(self, label_B: Tensor) -> Tensor:
        """Return the sum of the weights of the cells, which makes the loss of a step a mean.

        Divided by the number of cells instead, a single rare cell would look like an explosion.
        """
        return self.weight_C[label_B].sum()


@dataclass(frozen=True)
class Classification:
    """A model, the cells that it learns from, and the loss."""

    model: CellTypeModel
    cells: CellBatches
    labelled: LabelledRows
    type_loss: TypeLoss
    device: torch.device
    precision: Precision = "auto"  # of validation and calibration, as of training

    def __post_init__(self) -> None:
        self.type_loss.to(self.device)

    def make(self, rows: np.ndarray, generator: torch.Generator) -> MiniBatch:
        """Return cells with their types; nothing but dropout is random here."""
        del generator
        return replace(self.cells.make(rows), targets=torch.from_numpy(self.labelled.label[rows]))

    def loss(self, model: nn.Module, batch: MiniBatch) -> tuple[Tensor, Tensor]:
        """Return the weighted sum of the loss over the cells of a batch, and the weights' sum."""
        assert isinstance(model, CellTypeModel)
        label_B = batch.targets
        assert label_B is not None
        logits_BC, _ = model(batch.genes_BG, batch.tokens_BG, batch.real_BG, batch.packing)
        return self.type_loss(logits_BC, label_B), self.type_loss.weight(label_B)

    def validate(self, stop: StopRequest) -> dict[str, float]:
        """Score the validation cells."""
        rows, label = self.labelled.of("validation")
        given = (self.model, self.cells, rows, self.device)
        logits = outputs(*given, lambda _: stop.check(), precision=self.precision).logits
        return {
            "validation_loss": _mean_loss(logits, label),
            "validation_accuracy": float(accuracy_score(label, logits.argmax(axis=1))),
            "validation_macro_f1": macro_f1(logits, label),
        }


def macro_f1(logits: np.ndarray, label: np.ndarray) -> float:
    """Return the mean over types of the F1 of the largest logit."""
    return float(f1_score(label, logits.argmax(axis=1), average="macro", zero_division=0))


def _mean_loss(logits: np.ndarray, label: np.ndarray) -> float:
    probability = softmax(logits, 1.0)[np.arange(len(label)), label]
    return float(-np.log(np.maximum(probability, 1e-12)).mean())
