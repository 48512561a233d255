"""The evaluation of a model by a labelled file of one's own, as `scbert evaluate` writes it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from scbert.evidence.comparison import Interval
from scbert.evidence.evaluation import ModelScores, SeedScores, beside_model, with_model
from scbert.evidence.record import Record


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

    def content(self) -> dict[str, Any]:
        """Return what stands in the file."""
        batches = [{"batch": b.batch, "cells": b.cells, **b.scores} for b in self.batches]
        return beside_model(asdict(self) | {"batches": batches})

    @classmethod
    def _nested(cls, content: dict[str, Any]) -> dict[str, Any]:
        about = ("batch", "cells")
        batches = [
            {key: batch[key] for key in about}
            | {"scores": {key: batch[key] for key in batch if key not in about}}
            for batch in content["batches"]
        ]
        return with_model(content) | {"batches": batches}
