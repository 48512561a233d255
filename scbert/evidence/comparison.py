"""A comparison: the scores of scBERT and of other methods on the same cells, as comparison.json."""

from dataclasses import dataclass

from scbert.evidence.bootstrap import Interval
from scbert.evidence.record import Record

KINDS = ("model", "expert", "baseline", "control")  # the order in which they are shown


@dataclass(frozen=True)
class MethodScores:
    """What a method is, how it was set, and how well it named the test cells."""

    method: str
    title: str
    kind: str
    setting: str
    accuracy: Interval
    macro_f1: Interval
    balanced_accuracy: Interval
    f1_of_type: dict[str, float]

    def metric(self, name: str) -> Interval:
        """Return the accuracy, macro_f1 or balanced_accuracy."""
        return getattr(self, name)


@dataclass(frozen=True)
class Difference:
    """A metric of scBERT minus that of a method, on the same resamples of the test cells."""

    method: str
    metric: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison(Record):
    """Content of comparison.json; scBERT is the first of the methods."""

    dataset: str
    n_test: int
    n_train: int
    n_validation: int
    confidence_level: float
    interval: str  # how the intervals were made
    methods: list[MethodScores]
    differences: list[Difference]

    @property
    def model(self) -> MethodScores:
        """The scores of scBERT."""
        return self.of_kind("model")[0]

    @property
    def by_kind(self) -> list[MethodScores]:
        """The model, its experts, the baselines, the controls."""
        return sorted(self.methods, key=lambda method: KINDS.index(method.kind))

    @property
    def best_baseline(self) -> MethodScores | None:
        """The baseline with the highest macro F1 on the test cells; None if none was run."""
        return max(self.of_kind("baseline"), key=lambda found: found.macro_f1.mean, default=None)

    def of_kind(self, kind: str) -> list[MethodScores]:
        """Return the methods of a kind."""
        return [found for found in self.methods if found.kind == kind]

    def difference(self, method: str, metric: str = "macro_f1") -> Difference | None:
        """Return scBERT minus a method; None if the two were not compared."""
        found = self.differences
        return next((d for d in found if (d.method, d.metric) == (method, metric)), None)


@dataclass(frozen=True)
class Part:
    """The cells of each type, and the batches, in a part of a dataset."""

    cell_types: dict[str, int]
    batches: list[str]


@dataclass(frozen=True)
class OutOfFoldScores:
    """How well a method named cells that it had not learned from."""

    method: str
    title: str
    out_of_fold_macro_f1: float
    out_of_fold_log_loss: float


@dataclass(frozen=True)
class OutOfFoldComparison(Record):
    """Content of comparison.json of a model of which no cell was held out.

    Its scores have names of their own, so that nothing that looks for test scores takes them for
    some.
    """

    dataset: str
    scored_on: str
    caution: str
    n_test: int  # 0
    n_out_of_fold: int
    parts: dict[str, Part]
    methods: list[OutOfFoldScores]
