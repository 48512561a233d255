"""Annotation at the paper's size, and the memory of a file with a million cells.

Speed: the path of `scbert annotate`, file to file, with random weights, beside performer-pytorch's
PerformerLM, which takes all genes of the same cells. Memory: a large synthetic file, with a tiny
network and with the blood model of the package, each in a process of its own.
Run: make bench-annotate (Linux; writes docs/results/annotate.md); CELLS=FILE for others than those
of scanpy's pbmc68k_reduced; python benchmarks/annotation_speed.py --cells-timed 4
--memory-cells 2000 --out FOLDER for a trial.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import torch
from anndata.io import write_elem
from paper_size import ALL_GENES, PAPER
from performer_pytorch import PerformerLM
from scipy import sparse

import scbert
from scbert.calibration.fitted import Calibration
from scbert.calibration.novelty import LabelledOutputs, fit_novelty
from scbert.cells.read import gene_names, read_cells
from scbert.config import Head, Network
from scbert.network.model import CellTypeModel, new_encoder, new_head
from scbert.steps.annotate_file import annotate_file
from scbert.training.bundle import Contents, save_model
from scbert.training.bundle_contents import BundleConfig
from scbert.training.components import N_COMPONENTS, Components

BLOOD = Path(scbert.__file__).parent / "shipped" / "blood"
EMBEDDED = Path(importlib.util.find_spec("scanpy").origin).parent  # type: ignore[union-attr,arg-type]
CELLS = EMBEDDED / "datasets/10x_pbmc68k_reduced.h5ad"
HEAD = Head(head="conv", hidden=(64,), dropout=0)
N_BINS, N_TYPES, SEED = 5, 10, 0
N_KNOWN = 1_000  # random cells that the novelty score is fitted on
TINY = {"dim": 64, "depth": 1, "heads": 1, "dim_head": 8, "n_features": 8, "ff_mult": 1}
GENES_OF_LARGE = 2_000
GENES_PER_CELL = 20  # of the synthetic file: time, not memory, grows with them
CELLS_WRITTEN_AT_ONCE = 50_000
MOST_GB = 3.0
CELLS_PER_SECOND, TIMES_FASTER = 4.0, 20.0  # the goal


def write_model(folder: Path, network: Network, genes: pd.DataFrame) -> None:
    """Write a bundle as fine-tuning does, with random weights."""
    vectors = torch.randn(len(genes), network.dim, generator=torch.Generator().manual_seed(SEED))
    encoder = new_encoder(network, N_BINS, vectors, SEED)
    head = new_head(HEAD, network.dim, len(genes), N_TYPES, SEED)
    config: BundleConfig = {
        "kind": "finetuned",
        "sequence": "expressed_genes",
        "network": network.model_dump(),
        "n_bins": N_BINS,
        "normalization": {"target_sum": 10_000, "denominator": "library"},
        "finetune": HEAD.model_dump(),
        "annotate": {"tokens_per_batch": 65_536, "min_gene_overlap": 0.0},
    }
    labels = [{"name": f"type{n}", "ontology_term_id": "unknown"} for n in range(N_TYPES)]
    rng = np.random.default_rng(SEED)
    known = LabelledOutputs(
        rng.normal(size=(N_KNOWN, N_TYPES)),
        rng.normal(size=(N_KNOWN, N_COMPONENTS)),
        np.arange(N_KNOWN) % N_TYPES,
    )
    calibration: Calibration = {
        **fit_novelty(known, temperature=1.0, score="expression_distance"),
        "novelty_threshold": 1.0,
        "false_unknown_rate": 0.0,
        "validation_cells": 1,
        "expected_novel_detection": [],
        "levels": None,
    }
    axes = rng.normal(size=(N_COMPONENTS, len(genes))).astype(np.float32)
    none_V, spread_K = np.zeros(len(genes), np.float32), np.ones(N_COMPONENTS, np.float32)
    components = Components(axes, none_V, spread_K, noise=1.0, counts_V=none_V)
    contents = Contents(labels=labels, calibration=calibration, components=components)
    save_model(folder, CellTypeModel(encoder, head), config, genes, contents=contents)


def some_cells(path: Path, n_cells: int, to: Path) -> pd.DataFrame:
    """Write some cells of a file, drawn evenly; return a vocabulary that has their genes first."""
    cells = read_cells(path)
    rows = np.unique(np.linspace(0, cells.n_obs - 1, n_cells).astype(int))
    cells = cells[rows].copy()
    cells.write_h5ad(to)
    var = cells.raw.var if cells.raw is not None else cells.var
    genes = gene_names(var)
    expressed = np.flatnonzero(genes.symbol.to_numpy() != "")[:ALL_GENES]
    known = genes.iloc[expressed].drop_duplicates("symbol")
    others = [f"OTHER{n}" for n in range(ALL_GENES - len(known))]
    return pd.concat([known, pd.DataFrame({"symbol": others, "gene_id": ""})], ignore_index=True)


def annotate_here(query: Path, model: Path, out: Path, threads: int) -> None:
    """Annotate and print the seconds, without those of imports."""
    torch.set_num_threads(threads)
    started = time.perf_counter()
    found = annotate_file(query, model, out)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "cells": found.n_obs, "gb": peak_gb()}))


def peak_gb() -> float:
    """Return the peak resident memory of this process.

    Not getrusage: on Linux, what that gives is never below the peak of the parent process.
    """
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e6


def in_process(*given: str | Path | int) -> dict[str, float]:
    """Annotate in a fresh process, whose peak memory is its own."""
    command = [sys.executable, __file__, "--measure", json.dumps([str(one) for one in given])]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(run.stdout.splitlines()[-1])
    print(found, flush=True)
    return found


def peer_seconds(runs: int, threads: int) -> float:
    """Return the seconds that performer-pytorch takes for a cell of all genes, at the median."""
    torch.set_num_threads(threads)
    peer = PerformerLM(
        num_tokens=7,
        max_seq_len=ALL_GENES,
        dim=200,
        depth=6,
        heads=10,
        nb_features=266,
        rotary_position_emb=False,  # with it, the peer would do work that scBERT does not
    ).eval()
    tokens = torch.randint(0, N_BINS + 1, (1, ALL_GENES))
    seconds = []
    with torch.no_grad():
        peer(tokens[:, :256])  # to warm up
        for _ in range(runs):
            started = time.perf_counter()
            peer(tokens)
            seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def write_large(path: Path, n_cells: int, symbols: list[str]) -> None:
    """Write a file of so many cells of GENES_OF_LARGE genes, a part at a time."""
    rng = np.random.default_rng(SEED)
    with h5py.File(path, "w") as file:
        empty = ad.AnnData(
            obs=pd.DataFrame(index=[f"cell{n}" for n in range(n_cells)]),
            var=pd.DataFrame(index=symbols),
        )
        write_elem(file, "/", empty)
        size = n_cells * GENES_PER_CELL
        write_elem(file, "X", sparse.csr_matrix((1, 1), dtype=np.float32))
        matrix = file["X"]
        matrix.attrs["shape"] = (n_cells, GENES_OF_LARGE)
        kinds = {"data": np.float32, "indices": np.int32, "indptr": np.int64}
        sizes = {"data": size, "indices": size, "indptr": n_cells + 1}
        for name, kind in kinds.items():
            del matrix[name]
            matrix.create_dataset(name, (sizes[name],), kind)
        matrix["indptr"][:] = np.arange(n_cells + 1) * GENES_PER_CELL
        for start in range(0, n_cells, CELLS_WRITTEN_AT_ONCE):
            cells = min(CELLS_WRITTEN_AT_ONCE, n_cells - start)
            first = rng.integers(0, GENES_OF_LARGE // GENES_PER_CELL, (cells, GENES_PER_CELL))
            genes = first + np.arange(GENES_PER_CELL) * (GENES_OF_LARGE // GENES_PER_CELL)
            span = slice(start * GENES_PER_CELL, (start + cells) * GENES_PER_CELL)
            matrix["indices"][span] = genes.ravel()
            matrix["data"][span] = rng.integers(1, 9, genes.size)


def speed(cells: Path, n_cells: int, threads: int, folder: Path) -> list[str]:
    """Measure the speed; return the table."""
    query, model = folder / "query.h5ad", folder / "paper"
    write_model(model, PAPER, some_cells(cells, n_cells, query))
    ours = in_process(query, model, folder / "speed.h5ad", threads)
    peer = peer_seconds(3, threads)
    per_cell = ours["seconds"] / ours["cells"]
    verdict = "reached" if per_cell <= 1 / CELLS_PER_SECOND else "missed"
    faster = "reached" if peer / per_cell >= TIMES_FASTER else "missed"
    return [
        f"\n## Speed at the paper's size: {ours['cells']:.0f} cells of {cells.name}\n",
        "| path | seconds per cell | cells per second | peak GB |",
        "|---|---:|---:|---:|",
        f"| annotate_file, expressed_genes | {per_cell:.3f} | {1 / per_cell:.2f} "
        f"| {ours['gb']:.2f} |",
        f"| performer-pytorch, {ALL_GENES:,} genes, forward only | {peer:.2f} | {1 / peer:.2f} | |",
        f"\nGoal of {CELLS_PER_SECOND:g} cells per second: {verdict}. Ratio "
        f"{peer / per_cell:.1f}, goal {TIMES_FASTER:g}: {faster}.",
    ]


def memory(n_cells: int, threads: int, folder: Path) -> list[str]:
    """Measure the memory with a network and with experts; return the table."""
    query, model = folder / "large.h5ad", folder / "tiny"
    symbols = [f"GENE{n}" for n in range(GENES_OF_LARGE)]
    network = Network.model_validate(PAPER.model_dump() | TINY)
    write_model(model, network, pd.DataFrame({"symbol": symbols, "gene_id": ""}))
    write_large(query, n_cells, symbols)
    tiny = in_process(query, model, folder / "memory.h5ad", threads)
    known = pd.read_csv(BLOOD / "genes.tsv", sep="\t", keep_default_na=False)
    write_large(query, n_cells, known.symbol[known.used].tolist())
    blood = in_process(query, BLOOD, folder / "memory.h5ad", threads)
    met = all(found["gb"] < MOST_GB for found in (tiny, blood))
    return [
        f"\n## Memory: {n_cells:,} cells of {GENES_PER_CELL} expressed genes\n",
        "| model | peak GB | seconds | cells per second |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {found['gb']:.2f} | {found['seconds']:.0f} "
            f"| {found['cells'] / found['seconds']:,.0f} |"
            for name, found in (
                (f"a network, width {TINY['dim']}, {N_TYPES} types", tiny),
                ("the blood model of the package: experts, 10 types", blood),
            )
        ),
        f"\nGoal of less than {MOST_GB:g} GB: {'reached' if met else 'missed'}.",
    ]


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=Path, default=CELLS, help="a file of cells")
    parser.add_argument("--cells-timed", type=int, default=200)
    parser.add_argument("--memory-cells", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        query, model, out, threads = json.loads(options.measure)
        annotate_here(Path(query), Path(model), Path(out), int(threads))
        return
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            "# Annotation: speed and memory",
            "\nWritten by `make bench-annotate`; do not edit. File to file, random weights "
            "but for the blood model, "
            f"float32, {options.threads} threads, torch {torch.__version__}; without the seconds "
            "of imports. GB: peak resident memory of the process.",
            *speed(options.cells, options.cells_timed, options.threads, Path(folder)),
            *memory(options.memory_cells, options.threads, Path(folder)),
        ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "annotate.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
