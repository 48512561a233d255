"""A model that was read from its folder: pretrained only, or one that names cell types."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from scbert.calibration.fitted import ModelCalibration
from scbert.experts.combiner import Share
from scbert.experts.linear import LinearExpert
from scbert.network.model import CellTypeModel, MaskedExpressionModel
from scbert.training.bundle_contents import BundleConfig
from scbert.training.committee import ENCODER, Committee
from scbert.training.components import Components
from scbert.training.seen_cells import SeenCells


@dataclass(frozen=True)
class SavedModel:
    """What every model holds that was read from its folder.

    `genes` is its vocabulary; `sha256` that of the manifest, by which a model is known.
    """

    network: MaskedExpressionModel | CellTypeModel
    config: BundleConfig
    genes: pd.DataFrame
    sha256: str

    @property
    def used(self) -> np.ndarray | None:
        """Which genes of the vocabulary may be tokens, shape (V,); None: all."""
        return self._where("used")

    @property
    def learned(self) -> np.ndarray:
        """Which genes of the vocabulary the model has learned from, shape (V,)."""
        return self._measured(self._seen_by_network())

    def _seen_by_network(self) -> np.ndarray:
        return np.ones(len(self.genes), dtype=bool) if self.used is None else self.used

    def _measured(self, genes: np.ndarray) -> np.ndarray:
        measured = self._where("measured")
        return genes if measured is None else genes & measured

    def _where(self, column: str) -> np.ndarray | None:
        """Return where a column of genes.tsv, which holds text, says True; None: no such column."""
        if column not in self.genes:
            return None
        return (self.genes[column].astype(str) == "True").to_numpy()


@dataclass(frozen=True)
class PretrainedModel(SavedModel):
    """An encoder with the layer that predicts hidden bins; it knows no cell types."""

    network: MaskedExpressionModel


@dataclass(frozen=True)
class FinetunedModel(SavedModel):
    """A model that names cell types.

    `labels` are the names of the types with their Cell Ontology ids; `experts` those that read the
    tokens. `components` are the principal components of the training cells, and `seen` is what is
    kept of these and of the validation cells: None of a model that another program trained, of
    whose cells nothing is known.
    """

    labels: list[dict[str, str]]
    calibration: ModelCalibration
    experts: dict[str, LinearExpert]
    components: Components | None
    seen: SeenCells | None

    @property
    def types(self) -> list[str]:
        """The names of the cell types, in the order of the logits."""
        return [label["name"] for label in self.labels]

    @property
    def calibrated(self) -> bool:
        """Whether the calibration was fitted; else it only makes plain softmax of the logits."""
        return self.calibration["validation_cells"] > 0

    @property
    def committee(self) -> Committee:
        """Its experts; of a model that another program trained the network alone."""
        shares = {ENCODER: Share(1, 1)}
        if experts := self.calibration.get("experts"):
            shares = {
                name: Share(one["weight"], one["temperature"]) for name, one in experts.items()
            }
        return Committee(self.experts, shares)

    def adapted(self, measured: np.ndarray) -> "FinetunedModel":
        """Return it with experts for cells of which only some genes were measured, bool (V,)."""
        if self.components is None:
            return self
        adapt = self.components.adapted
        experts = {name: adapt(expert, measured) for name, expert in self.experts.items()}
        return replace(self, experts=experts)

    @property
    def learned(self) -> np.ndarray:
        """Which genes of the vocabulary the model has learned from, shape (V,).

        Those that an expert with a weight reads, be it the network, and that were measured in
        fine-tuning. The vocabulary is the corpus's; the cells from which the types were learned may
        have been measured with far fewer genes.
        """
        committee, learned = self.committee, np.zeros(len(self.genes), dtype=bool)
        if committee.asks_encoder:
            learned |= self._seen_by_network()
        for name, expert in self.experts.items():
            if committee.shares[name].weight:
                learned |= expert.weight_CV.any(axis=0)
        return self._measured(learned)


def require_finetuned(model: SavedModel, name: str) -> FinetunedModel:
    """Refuse a model that knows no cell types; `name` is what the error calls it."""
    if isinstance(model, FinetunedModel):
        return model
    raise ValueError(
        f"{name} is pretrained only and knows no cell types, but a fine-tuned model is needed. "
        "Fine-tune it first (scbert finetune), or give a model that was."
    )
