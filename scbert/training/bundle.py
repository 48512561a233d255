"""A model as a folder that can be copied to another machine and annotates there.

weights.safetensors · config.json · genes.tsv · labels.json, calibration.json, experts.safetensors,
principal_components.safetensors and training_cells.safetensors (fine-tuned only) · history.jsonl ·
MANIFEST.sha256, and README.md, the model card, for people.
Nothing is unpickled, only these names are read, and each is checked against the manifest.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import pandas as pd
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scbert.calibration.fitted import Calibration
from scbert.evidence.pretraining_scores import HeldOutScores
from scbert.experts.linear import LARGEST, LinearExpert, load_experts, save_experts
from scbert.files import publish, sha256_of, write_json
from scbert.genes.matching import read_vocabulary
from scbert.network.model import CellTypeModel, MaskedExpressionModel, empty_model
from scbert.tables import write_table
from scbert.training.bundle_contents import (
    FORMAT,
    BundleConfig,
    read_calibration,
    read_config,
    read_labels,
)
from scbert.training.bundle_files import (
    MANIFEST,
    WEIGHTS,
    require_size,
    verify_files,
    write_manifest,
)
from scbert.training.components import Components, load_components, save_components
from scbert.training.saved_model import FinetunedModel, PretrainedModel, require_finetuned
from scbert.training.seen_cells import SeenCells, load_seen, save_seen
from scbert.training.state import Numbers

EXPERTS = "experts.safetensors"
COMPONENTS = "principal_components.safetensors"
SEEN = "training_cells.safetensors"
Content = TypeVar("Content")


@dataclass(frozen=True)
class Contents:
    """What a bundle holds beside weights, config, genes and history; None or empty: it does not.

    `validation` are the scores of a pretrained model; all else is of a fine-tuned one, see
    `FinetunedModel`.
    """

    labels: list[dict[str, str]] | None = None
    calibration: Calibration | None = None
    experts: Mapping[str, LinearExpert] = field(default_factory=dict)
    components: Components | None = None
    seen: SeenCells | None = None
    validation: HeldOutScores | None = None

    def write(self, folder: Path) -> None:
        """Write a file for each: JSON, or safetensors."""
        for name in ("labels", "calibration"):
            if getattr(self, name) is not None:
                write_json(folder / f"{name}.json", getattr(self, name))
        if self.validation is not None:
            self.validation.write(folder / "validation.json")
        if self.experts:
            save_experts(folder / EXPERTS, self.experts)
        if self.components is not None:
            save_components(folder / COMPONENTS, self.components)
        if self.seen is not None:
            save_seen(folder / SEEN, self.seen)


def save_model(
    folder: Path,
    model: nn.Module,
    config: BundleConfig,
    genes: pd.DataFrame,
    *,
    history: Sequence[Numbers] = (),
    contents: Contents | None = None,
) -> None:
    """Write a bundle; `history` has the numbers of each epoch, if the network was trained."""
    with publish(folder) as unfinished:
        unfinished.mkdir()
        weights = {key: _stored(value) for key, value in model.state_dict().items()}
        save_file(weights, unfinished / WEIGHTS)
        write_json(unfinished / "config.json", {"format": FORMAT, **config})
        write_table(unfinished / "genes.tsv", genes)
        lines = [json.dumps(record) + "\n" for record in history]
        (unfinished / "history.jsonl").write_text("".join(lines))
        if contents is not None:
            contents.write(unfinished)
        write_manifest(unfinished)


def _stored(weight: Tensor) -> Tensor:
    """Return a weight as it is to be written: in half precision if that is exactly it."""
    weight = weight.detach().cpu().contiguous()
    if weight.dtype != torch.float32 or not torch.equal(weight.half().float(), weight):
        return weight
    return weight.half()


def load_finetuned(folder: Path) -> FinetunedModel:
    """Read a model that names cell types; see `load_model`.

    Raises
    ------
    ValueError
        If the folder holds one that is pretrained only, and as `load_model` does.
    """
    return require_finetuned(load_model(folder), str(folder))


def load_pretrained(folder: Path) -> PretrainedModel:
    """Read a model that is pretrained only; see `load_model`.

    Raises
    ------
    ValueError
        If the folder holds a fine-tuned one, and as `load_model` does.
    """
    model = load_model(folder)
    if isinstance(model, PretrainedModel):
        return model
    raise ValueError(
        f"{folder} is a fine-tuned model, but one that is pretrained only is needed, to learn cell "
        "types from. Give the model that this one was made of, such as results/pretrained, or "
        "leave it out to take that of the package."
    )


def load_model(folder: Path) -> PretrainedModel | FinetunedModel:
    """Read a model of either kind and check every file of it.

    Raises
    ------
    ValueError
        If a file is missing or altered, or the folder is of another format.
    """
    verified = verify_files(folder)
    config = read_config(folder)
    _require_readable_experts(folder, config, verified)
    genes = read_vocabulary(folder / "genes.tsv")
    labels = read_labels(folder) if "labels.json" in verified else None
    n_types = None if labels is None else len(labels)
    network = _empty_network(verified[WEIGHTS], config, len(genes), n_types)
    sha256 = sha256_of(folder / MANIFEST)
    try:
        network.load_state_dict(load_file(verified[WEIGHTS]))
        network.eval()
        _require_usable(network, verified[WEIGHTS])
        if labels is None:
            assert isinstance(network, MaskedExpressionModel)  # one without types has no head
            return PretrainedModel(network, config, genes, sha256)
        n_genes = len(genes)
        of_types = partial(load_experts, n_types=len(labels), n_genes=n_genes)
        of_genes = partial(load_components, n_genes=n_genes)
        of_cells = partial(load_seen, n_genes=n_genes)
        experts = _load_if_there(folder, verified, EXPERTS, of_types) or {}
        components = _load_if_there(folder, verified, COMPONENTS, of_genes)
        n_components = None if components is None else len(components.axes_KV)
        return FinetunedModel(
            network=network,
            config=config,
            genes=genes,
            sha256=sha256,
            labels=labels,
            calibration=read_calibration(
                folder, verified, labels, experts=experts, n_components=n_components
            ),
            experts=experts,
            components=components,
            seen=_load_if_there(folder, verified, SEEN, of_cells),
        )
    except (RuntimeError, KeyError, SafetensorError) as error:
        raise ValueError(
            f"the weights in {folder} cannot be read or do not fit its config.json. Copy the "
            f"folder again from where it was made. ({error})"
        ) from error


def _require_usable(network: nn.Module, weights: Path) -> None:
    for name, value in network.state_dict().items():
        if not bool((value.abs() < LARGEST).all()):
            raise ValueError(
                f"'{name}' of {weights} holds numbers that are NaN, infinite or implausible. Train "
                "the model again."
            )


def _require_readable_experts(
    folder: Path, config: BundleConfig, verified: dict[str, Path]
) -> None:
    """Refuse classifiers of older formats."""
    if config["format"] < FORMAT and {EXPERTS, COMPONENTS} & verified.keys():
        raise ValueError(
            f"{folder} has bundle format {config['format']}, but this version reads classifiers "
            f"of format {FORMAT}, which say what missing genes would be. Train the model again, or "
            "use the version of scbert that config.json names."
        )


def _empty_network(
    weights: Path, config: BundleConfig, n_genes: int, n_types: int | None
) -> MaskedExpressionModel | CellTypeModel:
    try:
        require_size(weights, config, n_genes)
        return empty_model(config, n_genes, n_types)
    except (KeyError, TypeError, ValidationError) as error:
        raise ValueError(
            f"config.json beside {weights} does not describe a model that this version knows "
            f"({error}). Use the version of scbert that it names, or train the model again."
        ) from error


def _load_if_there(
    folder: Path, verified: dict[str, Path], name: str, load: Callable[[Path], Content]
) -> Content | None:
    return load(folder / name) if name in verified else None
