"""Checks of config.json, labels.json and calibration.json: that they hold what a model needs.

The manifest says that a file is what was written; who writes a bundle writes the manifest, too.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from scbert.calibration.fitted import ModelCalibration
from scbert.config import Normalization
from scbert.config.base import Count
from scbert.config.base import Sequence as SequenceName
from scbert.files import JsonObject, read_json
from scbert.tokens.store_files import StoreMeta
from scbert.training.bundle_files import MANIFEST
from scbert.training.committee import ENCODER

Number = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # .h5ad cannot hold others
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# Components say what missing genes would be since 7, classifiers read expression and not bins since
# 6; other models are the same since 4.
FORMAT = 7
READABLE = (4, 5, 6, 7)
NEEDS_POSITIONS = "expression_distance"  # of the novelty scores, see calibration.novelty


class BundleConfig(TypedDict, total=False):
    """Content of config.json; `read_config` checks what a model needs of it.

    What is a dictionary stands there as in config.yaml, or says where the model comes from.
    """

    format: int
    kind: str
    sequence: str
    n_bins: int
    network: JsonObject
    normalization: JsonObject
    tokens: StoreMeta
    provenance: Mapping[str, Any]
    # of a pretrained model
    binning: JsonObject
    pretrain: JsonObject
    added_genes: int  # see extend_vocabulary
    added_to: str
    # of a fine-tuned one
    dataset: str
    seed: int
    finetune: JsonObject
    annotate: JsonObject
    cells: dict[str, int]  # in each part
    cells_per_type: dict[str, int]
    pretrained: JsonObject
    # of one that another program trained
    converted: JsonObject


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


def read_config(folder: Path) -> BundleConfig:
    """Return what config.json holds, of a format that this version reads.

    Raises
    ------
    ValueError
        If a model cannot be used with it, naming the file and the key.
    """
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise ValueError(f"{folder}/config.json holds no keys and values. Copy the folder again.")
    if config.get("format") not in READABLE:
        raise ValueError(
            f"{folder} has bundle format {config.get('format')}, but this version reads "
            f"{', '.join(map(str, READABLE))}. Use the version of scbert that config.json "
            "names, or train the model again."
        )
    with _explained(folder / "config.json"):
        _Config.model_validate(config)
    return cast("BundleConfig", config)


def read_labels(folder: Path) -> list[dict[str, str]]:
    """Return what labels.json holds, cell types, each once; see `read_config`."""
    labels = read_json(folder / "labels.json")
    with _explained(folder / "labels.json"):
        names = [label.name for label in LABELS.validate_python(labels)]
        if len(set(names)) < len(names):
            raise ValueError("a cell type is there twice")
    return labels


def read_calibration(
    folder: Path,
    verified: Collection[str],
    labels: Sequence[dict[str, str]],
    experts: Collection[str],
    n_components: int | None,
) -> ModelCalibration:
    """Return what calibration.json holds, if it fits the labels, the experts and the components.

    Parameters
    ----------
    verified
        The names of the files of the bundle.
    n_components
        None if there are no components.
    """
    if "calibration.json" not in verified:
        raise ValueError(
            f"{folder} names cell types, but its {MANIFEST} lists no calibration.json, which says "
            "what a confidence is worth and what is called unknown. Copy the folder again from "
            "where it was made, or fine-tune again."
        )
    calibration = read_json(folder / "calibration.json")
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
    return calibration


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
