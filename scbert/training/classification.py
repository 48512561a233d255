"""Training and judging of a classifier of cell types: its cells, its loss, rare types."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn
from torch.nn import functional

from scbert.calibration.confidence import softmax
from scbert.config import Finetune, Precision
from scbert.network.model import CellTypeModel, Encoder
from scbert.tables import read_table
from scbert.training.cell_batches import CellBatches
from scbert.training.committee import outputs
from scbert.training.mini_batch import MiniBatch
from scbert.training.state import StopRequest

NO_TYPE = -1


class LabelledRows:
    """The cell types of the training and validation cells, by row of the token store.

    `types` are those of the parts that teach them, sorted; a cell's type is its number there.

    Parameters
    ----------
    split
        Table of all cells of the store, in any order: cell, cell_type, part and perhaps batch.
    cells
        The names of the store's cells, in its order.
    teaching
        The parts whose types can be named: a head of the network learns from training cells alone,
        the experts from validation cells, too.

    Raises
    ------
    ValueError
        If the table holds other cells, or no cell to learn from or to choose the epoch by; experts
        that learn from a single cell of each type need none to choose by.
    """

    def __init__(
        self, split: Path, cells: list[str], teaching: tuple[str, ...] = ("train",)
    ) -> None:
        table = read_table(split, "cell", "cell_type", "part").set_index("cell")
        if set(table.index) != set(cells):
            raise ValueError(
                f"{split} and the tokens hold different cells: they were made from different "
                "counts. Remove both, and start again, to have them made anew."
            )
        table = table.loc[cells]
        self._part, self._teaching = table.part.to_numpy(), teaching
        known = "batch" in table and (table.batch != "").any()
        self.batch = table.batch.to_numpy(dtype=str) if known else None
        self.types = sorted(table.cell_type[np.isin(self._part, teaching)].unique())
        number = {name: index for index, name in enumerate(self.types)}
        hidden = table.cell_type.where(table.part != "test", "")  # test labels end here
        self.label = hidden.map(number).fillna(NO_TYPE).to_numpy(dtype=np.int64)
        one_each = "validation" in teaching and len(self.reference()[0]) == len(self.types)
        for part in ("train",) if one_each else ("train", "validation"):
            if not len(self.rows(part)):
                raise ValueError(
                    f"{split} has no cell of part '{part}' with a type that training cells have, "
                    f"but the model needs some to train on and some to choose by. {self._advice()}"
                )

    def _advice(self) -> str:
        if self.batch is None:
            return "Give more cells of each type, or divide them so that each part has every type."
        return (
            "Each part holds whole batches, and these have different types. Give another column of "
            "batches, in which types occur in several (batch_key), or none, to divide the cells."
        )

    def rows(self, part: str) -> np.ndarray:
        """Return the rows of a part that have one of the types, ascending."""
        return np.flatnonzero((self._part == part) & (self.label != NO_TYPE))

    def of(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a part, see `rows`, and the number of the type of each."""
        rows = self.rows(part)
        return rows, self.label[rows]

    def reference(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of training and validation cells, ascending, and their types' numbers."""
        rows = np.sort(np.concatenate([self.rows("train"), self.rows("validation")]))
        return rows, self.label[rows]

    def taught(self) -> dict[str, int]:
        """Return the number of cells of each type in the parts that teach them."""
        rows = np.concatenate([self.rows(part) for part in self._teaching])
        found = np.bincount(self.label[rows], minlength=len(self.types))
        return dict(zip(self.types, found.tolist(), strict=True))

    def sha256(self) -> str:
        """Return the SHA-256 of which cells are in which part and, but for test cells, of what."""
        seen = repr((self.types, self._part.tolist(), self.label.tolist()))
        return hashlib.sha256(seen.encode()).hexdigest()


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
        logits = outputs(
            model=self.model,
            cells=self.cells,
            rows=rows,
            device=self.device,
            done=lambda _: stop.check(),
            precision=self.precision,
        ).logits
        return {
            "validation_loss": _mean_loss(logits, label),
            "validation_accuracy": float(accuracy_score(label, logits.argmax(axis=1))),
            "validation_macro_f1": _macro_f1(logits, label),
        }


def _macro_f1(logits: np.ndarray, label: np.ndarray) -> float:
    """Return the mean over types of the F1 of the largest logit."""
    return float(f1_score(label, logits.argmax(axis=1), average="macro", zero_division=0))


def _mean_loss(logits: np.ndarray, label: np.ndarray) -> float:
    probability = softmax(logits, 1.0)[np.arange(len(label)), label]
    return float(-np.log(np.maximum(probability, 1e-12)).mean())
