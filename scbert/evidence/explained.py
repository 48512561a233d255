"""Genes that a model relies on for a type, and the test of their rankings: explanation.json."""

from dataclasses import asdict, dataclass

from scbert.evidence.bootstrap import Interval
from scbert.evidence.record import Record
from scbert.files import JsonObject


@dataclass(frozen=True)
class DeletionResult:
    """How far the probability of a label falls when genes are removed from its cells.

    A mean over cells, of the top genes of a ranking and of random ones; their difference, and the
    fall of the top genes less that of the control's top, each with the ends of its interval.
    """

    method: str
    cell_type: str  # all: the cells of all types
    genes: str  # how many were removed; mean: the mean over these numbers, of each cell
    cells: int
    top: float
    random: float
    difference: float
    low: float
    high: float
    over_control: float
    over_control_low: float
    over_control_high: float
    verdict: str  # passes, fails or control; empty but for all cells and the mean

    @property
    def over_random(self) -> Interval:
        """The fall of the top genes less that of random ones."""
        return Interval(self.difference, self.low, self.high)

    @property
    def over_top_of_control(self) -> Interval:
        """The fall of the top genes less that of the control's."""
        return Interval(self.over_control, self.over_control_low, self.over_control_high)


@dataclass(frozen=True)
class ExplainedMethod:
    """A way to rank genes, where it is from, and what all cells say of it."""

    title: str
    source: str
    deletion: DeletionResult


@dataclass(frozen=True)
class MarkersFound:
    """For how many types the top genes by a method hold known markers.

    `own`: of the type itself, out of `named` that have a list; `any`: of any type, out of `types`.
    """

    method: str
    own: int
    named: int
    any: int
    types: int


@dataclass(frozen=True)
class Missed:
    """By what share of it integrated gradients miss the difference that they should add up to."""

    median: float
    largest: float


@dataclass(frozen=True)
class Explained(Record):
    """Content of the file; there the keys of `deletion` stand beside the others of its method."""

    name: str
    labels_from: str
    model_sha256: str
    cells: dict[str, int]  # of each type
    methods: dict[str, ExplainedMethod]
    verdicts: list[str]  # a sentence on each method
    gradients_missed: Missed
    markers: int  # lists of markers that were given
    markers_found: list[MarkersFound]
    marker_types: dict[str, str]  # the list of each type
    gene_sets: int
    notes: list[str]
    warnings: dict[str, str]  # by code
    settings: JsonObject  # by key of the section explain of the configuration
    provenance: JsonObject

    def content(self) -> JsonObject:
        """Return what stands in the file."""
        methods = {
            name: {"title": one.title, "source": one.source, **asdict(one.deletion)}
            for name, one in self.methods.items()
        }
        return asdict(self) | {"methods": methods}

    @classmethod
    def _nested(cls, content: JsonObject) -> JsonObject:
        methods = {name: {**one, "deletion": one} for name, one in content["methods"].items()}
        return content | {"methods": methods}
