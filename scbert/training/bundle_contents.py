"""Whether labels.json, calibration.json and config.json of a bundle hold what a model needs.

The manifest says that a file is what was written; who writes a bundle writes the manifest, too.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from scbert.config import Normalization
from scbert.config.base import Count
from scbert.config.base import Sequence as SequenceName
from scbert.training.committee import ENCODER

Number = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # .h5ad cannot hold others
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
NEEDS_POSITIONS = "expression_distance"  # of the novelty scores, see calibration.novelty


class _Part(BaseModel):
    """Some of the keys of a file; others are for reports."""

    model_config = ConfigDict(strict=True)


class _Label(_Part):
    name: Annotated[Text, Field(min_length=1)]
    ontology_term_id: Text
    parent: Text = ""
    parent_ontology_term_id: Text = ""


class _Share(_Part):
    weight: NotNegative
    temperature: Positive


class _Levels(_Part):
    child_threshold: Number
    parent_threshold: Number


class _Calibration(_Part):
    temperature: Positive
    novelty_score: str
    novelty_threshold: Number
    false_unknown_rate: Annotated[float, Field(ge=0, le=1)]
    validation_cells: Annotated[int, Field(ge=0)]
    levels: _Levels | None = None
    experts: dict[str, _Share] | None = None
    type_positions: list[list[Number]] | None = None
    position_cholesky: list[list[Number]] | None = None


class _Sizes(_Part):
    tokens_per_batch: Count
    min_gene_overlap: Annotated[float, Field(ge=0, le=1)] = 0.0


class _Optimizer(_Part):
    precision: str = "no"


class _Training(_Part):
    optimizer: _Optimizer = _Optimizer()


class _Config(_Part):
    model_config = ConfigDict(strict=False)

    n_bins: Annotated[int, Field(ge=1, le=15)] | None = None  # as config.Binning
    sequence: SequenceName | None = None
    normalization: Normalization | None = None
    annotate: _Sizes | None = None
    pretrain: _Training | None = None
    finetune: _Training | None = None


LABELS = TypeAdapter(Annotated[list[_Label], Field(min_length=1)])


def require_config(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a config.json that a model cannot be used with.

    Raises
    ------
    ValueError
        Naming the file and the key.
    """
    with _explained(folder / "config.json"):
        _Config.model_validate(config)


def require_labels(folder: Path, labels: object) -> None:
    """Refuse a labels.json that does not name cell types, each once; see `require_config`."""
    with _explained(folder / "labels.json"):
        names = [label.name for label in LABELS.validate_python(labels)]
        if len(set(names)) < len(names):
            raise ValueError("a cell type is there twice")


def require_calibration(
    folder: Path,
    calibration: object,
    labels: Sequence[dict[str, str]],
    experts: Collection[str],
    n_components: int | None,
) -> None:
    """Refuse a calibration.json that does not fit the labels, the experts or the components.

    Parameters
    ----------
    n_components
        None if there are no components.
    """
    with _explained(folder / "calibration.json"):
        found = _Calibration.model_validate(calibration)
        shares = {ENCODER: 1.0}
        if found.experts is not None:
            shares = {name: share.weight for name, share in found.experts.items()}
        if {*shares, ENCODER} != {*experts, ENCODER}:  # the encoder may be its head, or an expert
            raise ValueError(f"it has weights of {sorted(shares)}, the model {sorted(experts)}")
        if not 0 < sum(shares.values()) < np.inf:
            raise ValueError("no expert has a weight")
        if found.levels and not all(label.get("parent") for label in labels):
            raise ValueError("it has thresholds of parents, but not all labels have a parent")
        if found.novelty_score == NEEDS_POSITIONS:
            _require_shape(found.type_positions, (len(labels), n_components), "type_positions")
            _require_shape(
                found.position_cholesky, (n_components, n_components), "position_cholesky"
            )


def _require_shape(rows: list[list[float]] | None, shape: tuple[int | None, ...], key: str) -> None:
    lengths = [len(row) for row in rows or []]
    if None in shape or len(lengths) != shape[0] or set(lengths) - {shape[1]}:
        raise ValueError(f"{key} is not of the shape {shape}")


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Name the file, and of a wrong value its key."""
    try:
        yield
    except ValueError as error:
        said = str(error)
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            said = f"'{key}' is {first['input']!r:.100}: {first['msg']}"
        raise ValueError(
            f"{file} does not describe a model that this version knows ({said}). Copy the folder "
            "again from where it was made, or train the model again."
        ) from error
