"""Peak memory of annotating a 10x .h5 file: a part at a time, and all of it in memory.

A synthetic file of Cell Ranger's layout (gzip) and a tiny network that knows few of its genes, so
that the matrix and not the network is measured. Each way is a process of its own.
Run: python benchmarks/tenx_memory.py [--cells 300000 --genes-per-cell 200] (a minute on one core).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from annotation_speed import PAPER, TINY, write_model
from network import peak_gb

from scbert.cells.counts import read_cells, write_cells
from scbert.config import Network
from scbert.steps.annotate import annotate, annotate_file

GENES, GENES_KNOWN = 2_000, 100
CELLS_AT_ONCE = 20_000


def write_large(path: Path, n_cells: int, n_genes: int) -> None:
    """Write a file as Cell Ranger 3 does: int32 counts, int64 indices, gzip."""
    rng = np.random.default_rng(0)
    step, size = GENES // n_genes, n_cells * n_genes
    with h5py.File(path, "w") as file:
        matrix = file.create_group("matrix")
        for name, kind in (("data", np.int32), ("indices", np.int64)):
            matrix.create_dataset(name, (size,), kind, chunks=(80_000,), compression="gzip")
        matrix["indptr"] = np.arange(n_cells + 1) * n_genes
        matrix["shape"] = np.array([GENES, n_cells], np.int32)
        matrix["barcodes"] = np.array([f"{n:016d}-1" for n in range(n_cells)], "S")
        features = matrix.create_group("features")
        names = np.array([f"GENE{n}" for n in range(GENES)], "S")
        features["id"] = features["name"] = names
        features["feature_type"] = np.array(["Gene Expression"] * GENES, "S")
        for start in range(0, n_cells, CELLS_AT_ONCE):
            shape = (min(CELLS_AT_ONCE, n_cells - start), n_genes)
            span = slice(start * n_genes, (start + shape[0]) * n_genes)
            genes = rng.integers(0, step, shape) + np.arange(n_genes) * step
            matrix["indices"][span] = genes.ravel()
            matrix["data"][span] = rng.geometric(0.6, shape).ravel()


def annotate_here(way: str, query: Path, model: Path, out: Path) -> None:
    """Annotate and print the seconds and the peak, without and with what imports take."""
    torch.set_num_threads(1)
    imported, started = peak_gb(), time.perf_counter()
    if way == "in parts":
        annotate_file(query, model, out)
    else:
        write_cells(out, annotate(read_cells(query), model, name=str(query)))
    seconds = time.perf_counter() - started
    gb = {"peak_gb": round(peak_gb(), 2), "imports_gb": round(imported, 2)}
    print(json.dumps({"way": way, "seconds": round(seconds, 1), **gb}))


def main() -> None:
    """Measure both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=300_000)
    parser.add_argument("--genes-per-cell", type=int, default=200)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        way, *paths = options.measure
        annotate_here(way, *map(Path, paths))
        return
    with tempfile.TemporaryDirectory() as name:
        query, model = Path(name) / "large.h5", Path(name) / "tiny"
        write_large(query, options.cells, options.genes_per_cell)
        symbols = [f"GENE{n * (GENES // GENES_KNOWN)}" for n in range(GENES_KNOWN)]
        genes = pd.DataFrame({"symbol": symbols, "gene_id": ""})
        write_model(model, Network.model_validate(PAPER.model_dump() | TINY), genes)
        mb = query.stat().st_size / 1e6
        print(f"{options.cells:,} cells x {options.genes_per_cell}: {mb:.0f} MB", flush=True)
        for way in ("in parts", "in memory"):
            out = Path(name) / "out.h5ad"
            given = [way, str(query), str(model), str(out)]
            subprocess.run([sys.executable, __file__, "--measure", *given], check=True)
            print(f"result: {out.stat().st_size / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
