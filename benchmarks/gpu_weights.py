"""Weights in half precision, in pieces that are small enough to come back from the GPU machine.

Put together here: python benchmarks/gpu_weights.py OUT NAME WEIGHTS.safetensors
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

PIECE = 15 * 2**20  # bytes


def write_pieces(weights: dict[str, Tensor], out: Path, name: str) -> dict[str, Any]:
    """Write weights as float16 to OUT/NAME.part0 and so on; return their sizes and SHA-256."""
    content = save({key: tensor.half().cpu().contiguous() for key, tensor in weights.items()})
    pieces = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
    for number, piece in enumerate(pieces):
        (out / f"{name}.part{number}").write_bytes(piece)
    return {
        "weights_name": name,
        "weights_bytes": len(content),
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "weights_pieces": len(pieces),
    }


def read_pieces(out: Path, name: str) -> dict[str, Tensor]:
    """Return the weights in float32.

    Raises
    ------
    ValueError
        If the pieces are not what results.json says.
    """
    stages = json.loads((out / "results.json").read_text())["stages"].values()
    said = [
        found
        for stage in stages
        for found in stage["measurements"].values()
        if found.get("weights_name") == name
    ]
    if not said:
        raise ValueError(f"{out}/results.json knows no weights called {name}. Run that stage.")
    numbers = range(said[0]["weights_pieces"])
    content = b"".join((out / f"{name}.part{number}").read_bytes() for number in numbers)
    if hashlib.sha256(content).hexdigest() != said[0]["weights_sha256"]:
        raise ValueError(f"{out}/{name}.part*: not what was written. Copy the folder again.")
    return {key: tensor.to(torch.float32) for key, tensor in load(content).items()}


def newest_checkpoint(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a training that was stopped."""
    found = sorted(folder.glob("step*/weights.safetensors"))
    if not found:
        raise ValueError("the training was told to stop before its first checkpoint")
    return load_file(found[-1])


def main() -> None:
    """Put the pieces together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("name")
    parser.add_argument("weights", type=Path)
    options = parser.parse_args()
    save_file(read_pieces(options.out, options.name), options.weights)


if __name__ == "__main__":
    main()
