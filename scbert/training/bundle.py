"""A model as a folder that can be copied to another machine and annotates there.

weights.safetensors · config.json · genes.tsv · labels.json, calibration.json, experts.safetensors,
principal_components.safetensors and training_cells.safetensors (fine-tuned only) · history.jsonl ·
MANIFEST.sha256, and README.md, the model card, for people.
Nothing is unpickled, only these names are read, and each is checked against the manifest.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scbert.config.removed import about_value
from scbert.experts.combiner import Share
from scbert.experts.linear import LinearExpert, load_experts, save_experts
from scbert.files import publish, read_json, sha256_of, write_json
from scbert.genes.matching import read_vocabulary
from scbert.network.model import CellTypeModel, MaskedExpressionModel
from scbert.tables import write_table
from scbert.training.bundle_files import MANIFEST, require_size, verify_files, write_manifest
from scbert.training.committee import ENCODER, Committee
from scbert.training.components import Components, load_components, save_components
from scbert.training.new_models import empty_model
from scbert.training.seen_cells import load_seen, save_seen

# Experts and components read bins up to 5, expression in 6; other models are the same since 4
FORMAT = 6
READABLE = (4, 5, 6)
EXPERTS = "experts"
COMPONENTS = "principal_components"
SEEN = "training_cells"
Content = TypeVar("Content")


@dataclass(frozen=True)
class Bundle:
    """A model and all that it needs to be used.

    `labels` (names of the cell types, with Cell Ontology ids) and `calibration`, `components`, the
    principal components of the training cells, and `seen`, the fingerprints of these and of the
    validation cells, are None in a pretrained bundle; the last two also in one that another program
    trained. `experts` are those that read the tokens; both have none.
    """

    model: MaskedExpressionModel | CellTypeModel
    config: dict[str, Any]
    genes: pd.DataFrame
    labels: list[dict[str, str]] | None
    calibration: dict[str, Any] | None
    experts: dict[str, LinearExpert]
    components: Components | None
    seen: np.ndarray | None
    sha256: str

    @property
    def used(self) -> np.ndarray | None:
        """Which genes of the vocabulary may be tokens, shape (V,); None: all."""
        return self._where("used")

    @property
    def committee(self) -> Committee:
        """Its experts; of a model that another program trained the network alone."""
        found = (self.calibration or {}).get("experts", {ENCODER: {"weight": 1, "temperature": 1}})
        shares = {name: Share(one["weight"], one["temperature"]) for name, one in found.items()}
        return Committee(self.experts, shares)

    @property
    def learned(self) -> np.ndarray:
        """Which genes of the vocabulary the model has learned from, shape (V,).

        Those that an expert with a weight reads, be it the network, and that were measured in
        fine-tuning. The vocabulary is the corpus's; the cells from which the types were learned may
        have been measured with far fewer genes.
        """
        n_genes, committee, measured = len(self.genes), self.committee, self._where("measured")
        learned = np.zeros(n_genes, dtype=bool)
        if self.labels is None or committee.asks_encoder:
            learned |= np.ones(n_genes, dtype=bool) if self.used is None else self.used
        for name, expert in self.experts.items():
            if committee.shares[name].weight:
                learned |= expert.weight_CV.any(axis=0)
        return learned if measured is None else learned & measured

    def _where(self, column: str) -> np.ndarray | None:
        """Return where a column of genes.tsv, which holds text, says True; None: no such column."""
        if column not in self.genes:
            return None
        return (self.genes[column].astype(str) == "True").to_numpy()


def save_bundle(
    folder: Path,
    model: nn.Module,
    config: dict[str, Any],
    genes: pd.DataFrame,
    history: list[dict],
    extra: dict[str, Any],
) -> None:
    """Write a bundle.

    `extra` are further files by name: labels, calibration and validation as JSON, the experts, the
    components and fingerprints of cells as safetensors.
    """
    with publish(folder) as unfinished:
        unfinished.mkdir()
        weights = {key: _stored(value) for key, value in model.state_dict().items()}
        save_file(weights, unfinished / "weights.safetensors")
        write_json(unfinished / "config.json", {"format": FORMAT, **config})
        write_table(unfinished / "genes.tsv", genes)
        lines = [json.dumps(record) + "\n" for record in history]
        (unfinished / "history.jsonl").write_text("".join(lines))
        for name, content in extra.items():
            match content:
                case _ if name == EXPERTS:
                    save_experts(unfinished / f"{name}.safetensors", content)
                case Components():
                    save_components(unfinished / f"{name}.safetensors", content)
                case np.ndarray():
                    save_seen(unfinished / f"{name}.safetensors", content)
                case _:
                    write_json(unfinished / f"{name}.json", content)
        write_manifest(unfinished)


def _stored(weight: Tensor) -> Tensor:
    """Return a weight as it is to be written: in half precision if that is exactly it."""
    weight = weight.detach().cpu().contiguous()
    if weight.dtype != torch.float32 or not torch.equal(weight.half().float(), weight):
        return weight
    return weight.half()


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every file of it.

    Raises
    ------
    ValueError
        If a file is missing or altered, or the bundle is of another format.
    """
    verified = verify_files(folder)
    config = _read_config(folder)
    if config["format"] < FORMAT and {f"{EXPERTS}.safetensors", f"{COMPONENTS}.safetensors"} & {
        *verified
    }:
        raise ValueError(
            f"{folder} has bundle format {config['format']}, whose classifiers were learned from "
            "binned expression; this version gives them expression. Train the model again, or use "
            "the version of scbert that config.json names."
        )
    genes = read_vocabulary(folder / "genes.tsv")
    labels, calibration = (
        read_json(folder / name) if name in verified else None
        for name in ("labels.json", "calibration.json")
    )
    try:
        require_size(folder, config, len(genes))
        model = empty_model(config, len(genes), None if labels is None else len(labels))
    except (KeyError, TypeError, ValidationError) as error:
        raise ValueError(
            f"{folder}/config.json does not describe a model that this version knows ({error}). "
            "Use the version of scbert that it names, or train the model again."
        ) from error
    try:
        model.load_state_dict(load_file(folder / "weights.safetensors"))
        n_types = 0 if labels is None else len(labels)
        of_types = partial(load_experts, n_types=n_types, n_genes=len(genes))
        experts = _load_if_there(folder, verified, EXPERTS, of_types) or {}
        of_genes = partial(load_components, n_genes=len(genes))
        components = _load_if_there(folder, verified, COMPONENTS, of_genes)
        seen = _load_if_there(folder, verified, SEEN, load_seen)
    except (RuntimeError, KeyError, SafetensorError) as error:
        raise ValueError(
            f"the weights in {folder} cannot be read or do not fit its config.json. Copy the "
            f"folder again from where it was made. ({error})"
        ) from error
    sha256 = sha256_of(folder / MANIFEST)
    more = (labels, calibration, experts, components, seen)
    return Bundle(model.eval(), config, genes, *more, sha256)


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise ValueError(f"{folder}/config.json holds no keys and values. Copy the folder again.")
    if config.get("format") not in READABLE:
        raise ValueError(
            f"{folder} has bundle format {config.get('format')}, but this version reads "
            f"{', '.join(map(str, READABLE))}. Use the version of scbert that config.json "
            "names, or train the model again."
        )
    finetune = config.get("finetune")
    head = finetune.get("head") if isinstance(finetune, dict) else None
    if removed := about_value("finetune.head", head):
        raise ValueError(
            f"{folder}/config.json says finetune.head: {head}, but this version reads models with "
            f"head mean or conv. {removed} Use that one, or fine-tune again."
        )
    return config


def _load_if_there(
    folder: Path, verified: set[str], name: str, load: Callable[[Path], Content]
) -> Content | None:
    file = f"{name}.safetensors"
    return load(folder / file) if file in verified else None
