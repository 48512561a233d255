"""Which cells a model has learned from, so that a test on them is noticed by any name.

A cell is known by eight bytes of the BLAKE2 digest of its tokens, genes and bins. It holds no
expression, but who has a cell can tell whether the model was trained on it.
"""

import hashlib
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from scbert.tokens.store import TokenStore

FEWEST_TOKENS = 20  # cells with fewer may be alike by chance


def fingerprints(store: TokenStore, rows: np.ndarray) -> np.ndarray:
    """Return a number for each cell, uint64; 0 for those with too few tokens to be told apart."""
    return np.array([_fingerprint(*store.tokens(row)) for row in rows], dtype=np.uint64)


def _fingerprint(genes: np.ndarray, bins: np.ndarray) -> int:
    if len(genes) < FEWEST_TOKENS:
        return 0
    tokens = genes.astype("<u2").tobytes() + bins.astype("u1").tobytes()
    return int.from_bytes(hashlib.blake2b(tokens, digest_size=8).digest(), "little")


def save_seen(path: Path, seen: np.ndarray) -> None:
    """Write the fingerprints of the cells as safetensors, in an order that says nothing."""
    save_file({"fingerprint": np.unique(seen[seen > 0])}, path)


def load_seen(path: Path) -> np.ndarray:
    """Read fingerprints, uint64.

    Raises
    ------
    KeyError, ValueError
        If the array is missing or of another type.
    """
    found = load_file(path)["fingerprint"]
    if found.dtype != np.uint64 or found.ndim != 1:
        raise ValueError(
            f"{path} holds {found.dtype} of shape {found.shape}, but whole numbers of 64 bits, one "
            "per cell, are needed. Copy the folder again from where it was made."
        )
    return found
