"""A model as a folder that can be copied to another machine and annotates there.

weights.safetensors · config.json · genes.tsv · labels.json, calibration.json and
logistic_regression.safetensors (fine-tuned only) · history.jsonl · MANIFEST.sha256, and README.md,
the model card, for people. Nothing is unpickled, only these names are read, and each is checked
against the manifest.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scbert.cells.genes import read_vocabulary
from scbert.cells.tables import write_table
from scbert.config import Head, Network
from scbert.files import publish, read_json, sha256_of, write_json
from scbert.network.heads import build_head
from scbert.network.model import CellTypeModel, Encoder, MaskedExpressionModel
from scbert.training.linear import LinearModel, load_linear, save_linear

FORMAT = 3  # 2 had no logistic regression, and all genes of the vocabulary as tokens
READABLE = (2, 3)
LINEAR = "logistic_regression"
MANIFEST = "MANIFEST.sha256"
MOST_BYTES = {".json": 2**24, ".tsv": 2**28, ".sha256": 2**20}  # of a file that is read as a whole


@dataclass(frozen=True)
class Bundle:
    """A model and all that it needs to be used.

    `labels` (names of the cell types, with Cell Ontology ids), `calibration` and `linear`, the
    logistic regression of the same training cells, are None in a pretrained bundle; the last also
    in one that another program trained.
    """

    model: MaskedExpressionModel | CellTypeModel
    config: dict[str, Any]
    genes: pd.DataFrame
    labels: list[dict[str, str]] | None
    calibration: dict[str, Any] | None
    linear: LinearModel | None
    sha256: str

    @property
    def used(self) -> np.ndarray | None:
        """Which genes of the vocabulary may be tokens, shape (V,); None: all."""
        return (self.genes.used.astype(str) == "True").to_numpy() if "used" in self.genes else None


def gene_table(gene_vectors_VD: Tensor, sequence: str) -> Tensor:
    """Return the gene vectors, in sequence `paper` with one of zeros for the appended token."""
    if sequence == "paper":
        return torch.cat([gene_vectors_VD, torch.zeros_like(gene_vectors_VD[:1])])
    return gene_vectors_VD


def new_encoder(network: Network, n_bins: int, gene_vectors_VD: Tensor, seed: int) -> Encoder:
    """Build an encoder whose weights follow from the seed."""
    with seeded(seed):
        return Encoder(network, n_bins, gene_vectors_VD, seed)


def new_pretraining_model(
    network: Network, n_bins: int, gene_vectors_VD: Tensor, seed: int
) -> MaskedExpressionModel:
    """Build an encoder and the layer that predicts bins; their weights follow from the seed."""
    with seeded(seed):
        encoder = Encoder(network, n_bins, gene_vectors_VD, seed)
        return MaskedExpressionModel(encoder, network.dim, n_bins)


def new_head(
    settings: Head, dim: int, n_genes: int, n_types: int, n_bins: int, seed: int
) -> nn.Module:
    """Build a head whose weights follow from the seed."""
    with seeded(seed):
        return build_head(settings, dim, n_genes, n_types, n_bins)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from the seed inside, and leave torch's generator as it was."""
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
        torch.manual_seed(seed)
        yield


def save_bundle(
    folder: Path,
    model: nn.Module,
    config: dict[str, Any],
    genes: pd.DataFrame,
    history: list[dict],
    extra: dict[str, Any],
) -> None:
    """Write a bundle.

    `extra` are further files by name: labels, calibration and validation as JSON, the logistic
    regression as safetensors.
    """
    with publish(folder) as unfinished:
        unfinished.mkdir()
        weights = {
            key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()
        }
        save_file(weights, unfinished / "weights.safetensors")
        write_json(unfinished / "config.json", {"format": FORMAT, **config})
        write_table(unfinished / "genes.tsv", genes)
        lines = [json.dumps(record) + "\n" for record in history]
        (unfinished / "history.jsonl").write_text("".join(lines))
        for name, content in extra.items():
            if isinstance(content, LinearModel):
                save_linear(unfinished / f"{name}.safetensors", content)
            else:
                write_json(unfinished / f"{name}.json", content)
        sums = [f"{sha256_of(path)}  {path.name}\n" for path in sorted(unfinished.iterdir())]
        (unfinished / MANIFEST).write_text("".join(sums))


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every file of it.

    Raises
    ------
    ValueError
        If a file is missing or altered, or the bundle is of another format.
    """
    verified = _verify(folder)
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise ValueError(f"{folder}/config.json holds no keys and values. Copy the folder again.")
    if config.get("format") not in READABLE:
        raise ValueError(
            f"{folder} has bundle format {config.get('format')}, but this version reads "
            f"{' and '.join(map(str, READABLE))}. Use the version of scbert that config.json "
            "names, or train the model again."
        )
    genes = read_vocabulary(folder / "genes.tsv")
    labels, calibration = (
        read_json(folder / name) if name in verified else None
        for name in ("labels.json", "calibration.json")
    )
    try:
        _require_size(folder, config, len(genes))
        model = empty_model(config, len(genes), None if labels is None else len(labels))
    except (KeyError, TypeError, ValidationError) as error:
        raise ValueError(
            f"{folder}/config.json does not describe a model that this version knows ({error}). "
            "Use the version of scbert that it names, or train the model again."
        ) from error
    try:
        model.load_state_dict(load_file(folder / "weights.safetensors"))
        linear = _load_linear(folder, verified, labels, len(genes))
    except (RuntimeError, KeyError, SafetensorError) as error:
        raise ValueError(
            f"the weights in {folder} cannot be read or do not fit its config.json. Copy the "
            f"folder again from where it was made. ({error})"
        ) from error
    sha256 = sha256_of(folder / MANIFEST)
    return Bundle(model.eval(), config, genes, labels, calibration, linear, sha256)


def _load_linear(
    folder: Path, verified: set[str], labels: list[dict[str, str]] | None, n_genes: int
) -> LinearModel | None:
    name = f"{LINEAR}.safetensors"
    if labels is None or name not in verified:
        return None
    return load_linear(folder / name, len(labels), n_genes)


def _verify(folder: Path) -> set[str]:
    manifest = folder / MANIFEST
    _require_plain(manifest)
    if not manifest.is_file():
        raise ValueError(
            f"{folder} is not a model: it has no {MANIFEST}. Give the folder of a model, such as "
            "results/models/DATASET/seed2021."
        )
    names = set()
    for line in manifest.read_text().splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        _require_plain(path)
        if Path(name).name != name or not path.is_file() or sha256_of(path) != expected:
            raise ValueError(
                f"{folder}: '{name}' is missing or is not what was saved with the model (its "
                "SHA-256 differs). Copy the folder again from where it was made."
            )
        names.add(name)
    missing = {"weights.safetensors", "config.json", "genes.tsv"} - names
    if missing:
        raise ValueError(
            f"{manifest} does not list {', '.join(sorted(missing))}: the model is not complete."
        )
    return names


def _require_plain(path: Path) -> None:
    """Refuse a link, which could lead anywhere, and a file too large to be what it is called."""
    if path.is_symlink():
        raise ValueError(
            f"{path} is a link, but a model consists of plain files. Copy the folder with what the "
            "links lead to (cp -rL)."
        )
    most = MOST_BYTES.get(path.suffix)
    if most is not None and path.is_file() and path.stat().st_size > most:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes, but no model needs more than {most:,} "
            "there. Copy the folder again from where it was made."
        )


def _require_size(folder: Path, config: dict[str, Any], n_genes: int) -> None:
    """Refuse a network whose largest layers are larger than the file that holds all weights."""
    network = Network.model_validate(config["network"])
    layers = {
        "dim": network.dim * n_genes,
        "heads x dim_head": network.depth * network.heads * network.dim_head * network.dim,
        "ff_mult": network.depth * network.ff_mult * network.dim**2,
        "n_features": network.n_features * network.dim_head,
        "n_bins": config["n_bins"] * network.dim,
        "hidden": max(config.get("finetune", {}).get("hidden", [0])) * network.dim,
    }
    size = (folder / "weights.safetensors").stat().st_size
    for name, numbers in layers.items():
        if numbers > size:
            raise ValueError(
                f"{folder}/config.json describes a network whose {name} needs {numbers:,} numbers, "
                f"but all its weights are {size:,} bytes: it is not the network of these weights. "
                "Copy the folder again from where it was made."
            )


def empty_model(
    config: dict[str, Any], n_genes: int, n_types: int | None
) -> MaskedExpressionModel | CellTypeModel:
    """Build the model that a bundle's config.json describes; its weights are still to be loaded."""
    network = Network.model_validate(config["network"])
    vectors_VD = gene_table(torch.zeros(n_genes, network.dim), config["sequence"])
    if n_types is None:
        return new_pretraining_model(network, config["n_bins"], vectors_VD, seed=0)
    encoder = new_encoder(network, config["n_bins"], vectors_VD, seed=0)
    head = Head.model_validate({key: config["finetune"][key] for key in Head.model_fields})
    sizes = (network.dim, len(vectors_VD), n_types, config["n_bins"])
    return CellTypeModel(encoder, new_head(head, *sizes, seed=0))
