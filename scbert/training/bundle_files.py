"""The files of a bundle: they may come from anywhere, so they are checked before they are used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scbert.config import Network
from scbert.files import checksum_line, sha256_of
from scbert.shipped import ENCODER, shipped_models

MANIFEST, WEIGHTS = "MANIFEST.sha256", "weights.safetensors"
MOST_BYTES = {".json": 2**24, ".tsv": 2**28, ".sha256": 2**20}  # of a file that is read as a whole


def write_manifest(folder: Path) -> None:
    """Write the SHA-256 of each file in the folder beside them."""
    sums = [checksum_line(path) for path in sorted(folder.iterdir())]
    (folder / MANIFEST).write_bytes(b"".join(sums))


def verify_files(folder: Path) -> dict[str, Path]:
    """Return the files of a bundle by name, each as it was when the bundle was written.

    Weights that are not there may be those of the package's encoder, which a model with a frozen
    encoder has unchanged: the models of the package hold them once.

    Raises
    ------
    ValueError
        If a file is missing, altered, a link or too large to be what it is called.
    """
    manifest = folder / MANIFEST
    _require_plain(manifest)
    if not manifest.is_file():
        raise ValueError(
            f"{folder} is not a model: it has no {MANIFEST}. Give the folder of a model, such as "
            "results/models/DATASET/seed2021."
        )
    files: dict[str, Path] = {}
    for line in manifest.read_text(errors="replace").splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if name == WEIGHTS and not path.exists() and ENCODER in shipped_models():
            path = shipped_models()[ENCODER] / WEIGHTS
        _require_plain(path)
        if Path(name).name != name or not path.is_file() or sha256_of(path) != expected:
            raise ValueError(
                f"{folder}: '{name}' is missing or is not what was saved with the model (its "
                "SHA-256 differs). Copy the folder again from where it was made."
            )
        files[name] = path
    missing = {WEIGHTS, "config.json", "genes.tsv"} - files.keys()
    if missing:
        raise ValueError(
            f"{manifest} does not list {', '.join(sorted(missing))}: the model is not complete."
        )
    return files


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


def require_size(weights: Path, config: Mapping[str, Any], n_genes: int) -> None:
    """Refuse a network whose largest layers are larger than the file that holds all weights.

    Else a few lines of config.json could ask for all memory.

    Raises
    ------
    ValueError
        With the layer and both sizes; or, from pydantic, if config.json describes no network.
    KeyError
        If config.json lacks a part.
    """
    network = Network.model_validate(config["network"])
    finetune = config.get("finetune", {})
    hidden = max(finetune.get("hidden", [0]))
    layers = {
        "dim": network.dim * n_genes,
        "heads x dim_head": network.depth * network.heads * network.dim_head * network.dim,
        "ff_mult": network.depth * network.ff_mult * network.dim**2,
        "n_features": network.n_features * network.dim_head,
        "n_bins": config["n_bins"] * network.dim,
        "hidden": 0 if finetune.get("head") == "mean" else hidden * network.dim,
    }
    size = weights.stat().st_size
    for name, numbers in layers.items():
        if numbers > size:
            raise ValueError(
                f"config.json beside {weights} describes a network whose {name} needs "
                f"{numbers:,} numbers, but all its weights are {size:,} bytes: it is not the "
                "network of these weights. "
                "Copy the folder again from where it was made."
            )
