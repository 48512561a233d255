"""Quality of gene vectors, beside others of the same genes: the file of evaluate_gene2vec."""

from dataclasses import asdict, dataclass, field

from scbert.evidence.bootstrap import Interval
from scbert.evidence.record import Record
from scbert.files import JsonObject


@dataclass(frozen=True)
class VectorScores:
    """How well the vectors of one method tell what belongs together.

    `auc` is 0.5 by chance. `ratio`, of gene sets alone, is the mean cosine within sets / that of
    random pairs; None where the latter is not clearly above zero.
    """

    auc: Interval
    ratio: float | None = None


@dataclass(frozen=True)
class Measure:
    """The scores of each method on `n` gene sets or pairs of genes.

    `differences` are the AUC of the first method minus that of each other. `n_train` are the pairs
    that a classifier learned from; None without one. Where the measure could not be taken, n is 0
    and `reason` says why.
    """

    n: int
    methods: dict[str, VectorScores] = field(default_factory=dict)
    differences: dict[str, Interval] = field(default_factory=dict)
    n_train: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class NamedMeasure:
    """A measure, its kind (gene_sets, pairs or classifier) and what it was taken on."""

    kind: str
    name: str
    found: Measure

    def content(self) -> JsonObject:
        """Return what stands in the file: of `found` only what this kind of measure has."""
        about = {"kind": self.kind, "name": self.name, "n": self.found.n}
        if not self.found.n:
            return about | {"reason": self.found.reason}
        scores = {
            method: {"auc": asdict(one.auc)}
            | ({"ratio": one.ratio} if self.kind == "gene_sets" else {})
            for method, one in self.found.methods.items()
        }
        differences = {name: asdict(one) for name, one in self.found.differences.items()}
        learned = {} if self.found.n_train is None else {"n_train": self.found.n_train}
        return about | {"methods": scores, "differences": differences} | learned


@dataclass(frozen=True)
class VectorQuality(Record):
    """Content of the file: the measures, and the nearest genes of known ones by each method."""

    genes_compared: int
    measures: list[NamedMeasure]
    nearest: dict[str, dict[str, list[str]]]
    settings: JsonObject  # by key of the section gene2vec_quality of the configuration

    def content(self) -> JsonObject:
        """Return what stands in the file."""
        return asdict(self) | {"measures": [one.content() for one in self.measures]}

    @classmethod
    def _nested(cls, content: JsonObject) -> JsonObject:
        measures = [{**one, "found": one} for one in content["measures"]]
        return content | {"measures": measures}
