"""Random access to the token store, beside a backed .h5ad of the same cells, and bytes per token.

Cells are synthetic, with as many tokens as PanglaoDB's (about 900). Run: make bench-corpus.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

from scbert.tokens.store import open_store
from scbert.tokens.store_files import StoreMeta
from scbert.tokens.store_writer import SampleSource, write_store
from scbert.tokens.tokenize import LEVELS, Sample

N_BINS = 5
N_CELLS, N_GENES, TOKENS_PER_CELL = 20_000, 16_906, 900


def synthetic_bins(
    rng: np.random.Generator, n_cells: int, n_genes: int, tokens_per_cell: int
) -> sparse.csr_matrix:
    """Return bins 1 to 5 of about so many genes per cell, shape (cells, genes)."""
    lengths = rng.poisson(tokens_per_cell, n_cells)
    genes = [np.sort(rng.choice(n_genes, length, replace=False)) for length in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    bins = rng.integers(1, 6, indptr[-1]).astype(np.uint8)
    return sparse.csr_matrix((bins, np.concatenate(genes), indptr), shape=(n_cells, n_genes))


def main() -> None:
    """Print cells per second of both, bytes per token, and what checking the store takes."""
    rng = np.random.default_rng(0)
    bins = synthetic_bins(rng, N_CELLS, N_GENES, TOKENS_PER_CELL)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        names = [f"cell{number}" for number in range(N_CELLS)]
        sample = Sample("synthetic", names, bins * np.uint8(LEVELS), N_BINS, np.arange(N_GENES), 0)
        said: StoreMeta = {"n_bins": N_BINS, "vocabulary_size": N_GENES, "vocabulary_sha256": ""}
        meta = write_store(path / "store", [SampleSource("synthetic", "", lambda: sample)], said)
        ad.AnnData(bins.astype(np.float32)).write_h5ad(path / "cells.h5ad")
        started = time.perf_counter()
        store = open_store(path / "store")
        opening = time.perf_counter() - started
        backed = ad.read_h5ad(path / "cells.h5ad", backed="r")
        ours = cells_per_second(
            lambda row: [part.copy() for part in store.tokens(row)], rng, 20_000
        )
        peer = cells_per_second(lambda row: backed.X[row], rng, 1_000)
        ours_bytes, peer_bytes = (
            sum(file.stat().st_size for file in files) / meta["tokens"]
            for files in ((path / "store").iterdir(), [path / "cells.h5ad"])
        )
    print("\n| store | cells/s, random order | ratio | bytes per token, all files |")
    print("|---|---|---|---|")
    print(f"| token store | {ours:,.0f} | {ours / peer:.0f} | {ours_bytes:.2f} |")
    print(f"| backed .h5ad | {peer:,.0f} | 1 | {peer_bytes:.2f} |")
    print(f"\nOpening, every byte checked: {opening:.2f} s for {N_CELLS:,} cells.")


def cells_per_second(read: Callable[[int], object], rng: np.random.Generator, n: int) -> float:
    """Return how many cells are read per second in random order."""
    rows = rng.integers(0, N_CELLS, n)
    started = time.perf_counter()
    for row in rows:
        read(int(row))
    return n / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
