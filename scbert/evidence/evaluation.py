"""An evaluation: what the predictions of scBERT for test cells are worth, as evaluation.json."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from scbert.evidence.comparison import Interval, Part
from scbert.evidence.record import Record


@dataclass(frozen=True)
class SeedScores(Interval):
    """The mean over seeds with its interval, and the score of each seed."""

    per_seed: list[float]


@dataclass(frozen=True)
class TypeScores:
    """How well a cell type is named, mean over seeds; `support` are its test cells."""

    cell_type: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class ConfidenceBin:
    """Cells of similar confidence; None if there is none."""

    confidence: float | None
    accuracy: float | None
    n: int


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
class Refusal:
    """How well a threshold refuses cells, see `refusal_scores`; a share of no cell is None."""

    share_unknown: float | None
    accuracy_of_accepted: float | None
    strict_novel_accuracy: float | None
    known_accuracy: float | None
    novel_detected: float | None
    false_unknown: float | None


@dataclass(frozen=True)
class Coverage:
    """The accuracy of the cells that are accepted, against the share that is."""

    coverage: list[float]
    accuracy: list[float]
    area: float


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
    calibrated: Refusal
    original: Refusal
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


def with_model(content: dict[str, Any]) -> dict[str, Any]:
    """Put the keys of `ModelScores`, which stand among the others in a file, into `scbert`."""
    return content | {"scbert": {key: content[key] for key in KEYS if key in content}}


def beside_model(content: dict[str, Any]) -> dict[str, Any]:
    """Put the keys of `scbert` in its place among the others; the inverse of `with_model`."""
    flat: dict[str, Any] = {}
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

    def content(self) -> dict[str, Any]:
        """Return what stands in the file."""
        return beside_model(asdict(self))

    @classmethod
    def _nested(cls, content: dict[str, Any]) -> dict[str, Any]:
        return with_model(content)
