"""Content of a model card: a fine-tuned model's own numbers, and its scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from scbert.calibration.fitted import ModelCalibration
from scbert.cells.quality import FileQuality
from scbert.evidence.comparison import Comparison
from scbert.evidence.evaluation import Evaluation
from scbert.evidence.history import FinetuningEpoch, best_epoch
from scbert.tokens.store_files import StoreMeta


class NetworkSizes(TypedDict):
    """Some keys of `scbert.config.Network`."""

    depth: int
    dim: int
    heads: int
    dim_head: int
    attention: str


class HeadSettings(TypedDict):
    """Some keys of `scbert.config.Finetune`."""

    head: str
    train: str
    variable_genes: int | None


class Annotating(TypedDict):
    """A key of `scbert.config.Annotate`."""

    min_gene_overlap: float


class EncoderFacts(TypedDict):
    """The pretrained model; one that was made elsewhere does not say on which tokens."""

    sha256: str
    tokens: NotRequired[StoreMeta]


class Commit(TypedDict):
    """A key of `scbert.provenance.provenance`."""

    commit: str | None


class ModelConfig(TypedDict):
    """Some keys of config.json of a fine-tuned model."""

    dataset: str
    seed: int
    sequence: str
    network: NetworkSizes
    finetune: HeadSettings
    annotate: Annotating
    cells: dict[str, int]  # labelled cells: train, validation
    cells_per_type: dict[str, int]  # that the experts, or the head of the network, learned from
    pretrained: EncoderFacts
    provenance: Commit


@dataclass(frozen=True)
class GeneNumbers:
    """Genes of the vocabulary, those that the data measured, and those that may be tokens."""

    vocabulary: int
    measured: int
    used: int


@dataclass(frozen=True)
class CardEvidence:
    """What is known of one model; contents of the files of these names, but for `name`."""

    name: str  # of the bundle's folder
    config: ModelConfig
    calibration: ModelCalibration
    history: Sequence[FinetuningEpoch]
    genes: GeneNumbers
    evaluation: Evaluation
    comparison: Comparison
    quality: FileQuality

    @property
    def kept(self) -> FinetuningEpoch:
        """The epoch whose weights were kept: the first of the best."""
        return best_epoch(self.history)
