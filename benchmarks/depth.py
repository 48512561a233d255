"""Labels of cells with fewer counts, and how many of them the warning of shallow cells catches.

Run: python benchmarks/depth.py pbmc8k_labelled.h5ad (--cells N): numbers of docs/decisions/data.md.
Counts are thinned at random, of all cells or of a part; labels are beside those of all counts.
"""

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

import scbert
from scbert.cells.how_to_read import AUTOMATIC
from scbert.cells.query import query_in_memory
from scbert.shipped import BLOOD, model_folder
from scbert.training.bundle import load_finetuned
from scbert.training.depth import Depth
from scbert.training.query_tokens import CellsSeen, tokens_for
from scbert.training.saved_model import FinetunedModel

SEED = 0
SHARES = (
    (0.3, 0.25),
    (0.49, 0.25),
    (0.3, 0.5),
    (0.49, 0.5),
    (1.0, 0.7),
    (1.0, 0.6),
    (1.0, 0.49),
    (1.0, 0.25),
)
HEADS = ("cells thinned", "to", "depth", "below 95 %", "agreement", "of the thinned")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells_file", type=Path)
    parser.add_argument("--cells", type=int, default=1_000)
    options = parser.parse_args()
    rng = np.random.default_rng(SEED)
    cells = ad.read_h5ad(options.cells_file)
    cells = cells[rng.choice(cells.n_obs, min(options.cells, cells.n_obs), replace=False)].copy()
    model = load_finetuned(model_folder(BLOOD))
    right = labels_of(cells, model)
    print(f"| {' | '.join(HEADS)} |\n|{'---:|' * len(HEADS)}")
    for part, share in SHARES:
        thinned = np.random.default_rng(SEED).random(cells.n_obs) < part
        fewer = thin(cells, np.where(thinned, share, 1.0))
        same, depth = labels_of(fewer, model) == right, depth_of(fewer, model)
        numbers = (depth.share, depth.below, same.mean(), same[thinned].mean())
        print(f"| {part:.0%} | {share:.0%} | " + " | ".join(f"{x:.3f}" for x in numbers) + " |")


def thin(cells: ad.AnnData, share: np.ndarray) -> ad.AnnData:
    """Return cells of which each count is kept with a chance, of each cell its own (cells,)."""
    fewer, counts = cells.copy(), sparse.csr_matrix(cells.X, copy=True)
    chance = np.repeat(share, np.diff(counts.indptr))
    kept = np.random.default_rng(SEED).binomial(np.rint(counts.data).astype(int), chance)
    counts.data = kept.astype(np.float32)
    counts.eliminate_zeros()
    fewer.X = counts
    return fewer


def labels_of(cells: ad.AnnData, model: FinetunedModel) -> np.ndarray:
    """Return the label of each cell."""
    return scbert.annotate(cells, model).obs.scbert_label.to_numpy(dtype=str)


def depth_of(cells: ad.AnnData, model: FinetunedModel) -> Depth:
    """Return how deep the cells are beside the training cells."""
    tokens = tokens_for(query_in_memory(cells, AUTOMATIC, "cells"), model)
    seen = CellsSeen(tokens)
    for part in tokens.each():
        seen.add(part)
    assert seen.depth is not None
    return seen.depth


if __name__ == "__main__":
    main()
