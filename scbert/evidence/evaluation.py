"""Scores of predictions: of test cells, as evaluation.json, and of a file of one's own."""

from dataclasses import asdict, dataclass, field, fields

from scbert.calibration.confidence import ConfidenceBin
from scbert.calibration.novelty_threshold import Coverage, UnknownScores
from scbert.evidence.bootstrap import Interval
from scbert.evidence.comparison import Part
from scbert.evidence.record import Record
from scbert.files import JsonObject


@dataclass(frozen=True)
class SeedScores(Interval):
    """The mean over seeds with its interval, and the score of each seed."""

    per_seed: list[float]


@dataclass(frozen=True)
class TypeScores:
    """How well a cell type is named, mean over seeds, 0 / 0 as 0; `support` are its test cells."""

    cell_type: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Curve:
    """Accuracy against confidence, and the expected calibration error."""

    ece: float
    bins: list[ConfidenceBin]


@dataclass(frozen=True)
class Reliability:
    """What a confidence is worth before and after calibration; a temperature for each seed."""

    temperature: list[float]
    before: Curve
    after: Curve


@dataclass(frozen=True)
class Order:
    """How well a score puts novel and wrong cells last."""

    auroc: float | None
    coverage_accuracy: Coverage


@dataclass(frozen=True)
class Unknown:
    """What each seed's threshold, and the original's, call unknown; `by_score` is by seed, too."""

    threshold: list[float]
    novelty_score: str
    novel_types: list[str]
    novel_cells: int
    calibrated: UnknownScores
    original: UnknownScores
    by_score: list[dict[str, Order]]


@dataclass(frozen=True)
class ModelScores:
    """Scores of a model's predictions for cells of known types, over its seeds."""

    classes: list[str]
    n_test: int
    seeds: list[int]
    confidence_level: float
    scores: dict[str, SeedScores]  # by metric
    confusion: list[list[int]]
    per_type: list[TypeScores]
    reliability: Reliability
    unknown: Unknown


KEYS = tuple(one.name for one in fields(ModelScores))


def with_model(content: JsonObject) -> JsonObject:
    """Put the keys of `ModelScores`, which stand among the others in a file, into `scbert`."""
    return content | {"scbert": {key: content[key] for key in KEYS if key in content}}


def beside_model(content: JsonObject) -> JsonObject:
    """Put the keys of `scbert` in its place among the others; the inverse of `with_model`."""
    flat: JsonObject = {}
    for key, value in content.items():
        flat |= value if key == "scbert" else {key: value}
    return flat


@dataclass(frozen=True)
class Place:
    """Where a test cell lies on the map, its type, and what scBERT calls it."""

    cell: str
    x: float
    y: float
    true: str
    predicted: str


@dataclass(frozen=True)
class Evaluation(Record):
    """Content of evaluation.json of the test cells of a dataset.

    In the file the keys of `scbert` stand beside the others. The map is that of the first seed.
    """

    dataset: str
    parts: dict[str, Part]
    scbert: ModelScores
    embedding: list[Place] = field(default_factory=list)

    def content(self) -> JsonObject:
        """Return what stands in the file."""
        return beside_model(asdict(self))

    @classmethod
    def _nested(cls, content: JsonObject) -> JsonObject:
        return with_model(content)


@dataclass(frozen=True)
class FileMethod:
    """How well scBERT, an expert alone, or the most frequent type names the cells."""

    method: str
    title: str
    accuracy: SeedScores
    macro_f1: SeedScores
    balanced_accuracy: SeedScores


@dataclass(frozen=True)
class FileDifference:
    """The scores of scBERT minus those of a method."""

    method: str
    accuracy: Interval
    macro_f1: Interval
    balanced_accuracy: Interval


@dataclass(frozen=True)
class BatchScores:
    """The scores of a batch alone: by method, by metric."""

    batch: str
    cells: int
    scores: dict[str, dict[str, float]]


@dataclass(frozen=True)
class NovelCells:
    """How cells of types that the model does not know were met."""

    cells: int
    cell_types: dict[str, int]
    share_called_unknown: float
    share_of_known_called_unknown: float
    auroc: float


@dataclass(frozen=True)
class FileEvaluation(Record):
    """Content of evaluation.json of a file.

    In the file the keys of `scbert` stand beside the others, and in a batch the methods do.
    """

    version: str
    model: str
    model_sha256: str
    test: str
    test_sha256: str
    left_out: dict[str, int]
    scbert: ModelScores
    methods: list[FileMethod]
    differences: list[FileDifference]
    batches: list[BatchScores]
    novel: NovelCells | None
    warnings: dict[str, str] = field(default_factory=dict)

    def content(self) -> JsonObject:
        """Return what stands in the file."""
        batches = [{"batch": b.batch, "cells": b.cells, **b.scores} for b in self.batches]
        return beside_model(asdict(self) | {"batches": batches})

    @classmethod
    def _nested(cls, content: JsonObject) -> JsonObject:
        about = ("batch", "cells")
        batches = [
            {key: batch[key] for key in about}
            | {"scores": {key: batch[key] for key in batch if key not in about}}
            for batch in content["batches"]
        ]
        return with_model(content) | {"batches": batches}
