"""Memory of the trainer by the size of the corpus, and the share of its time that waits for data.

scripts/pretrain.py in a process of its own, as the rule runs it, on synthetic stores. For memory
cells are short and the network tiny, so that nothing hides what grows with the number of cells.
Run: make bench-training (Linux; writes docs/results/training.md; 3 minutes on one core).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from scipy import sparse
from store import synthetic_bins

from scbert.config import Config, Network, PretrainSettings, load_config, settings_for
from scbert.files import write_json
from scbert.genes.matching import vocabulary_sha256
from scbert.tokens.store_files import StoreMeta
from scbert.tokens.store_writer import SampleSource, write_store
from scbert.tokens.tokenize import LEVELS, Sample

ROOT = Path(__file__).parents[1]
CELLS = (10_000, 100_000, 1_000_000)
SHORT, LONG = 8, 900  # tokens of a cell; PanglaoDB's have about 900
SAMPLE = 10_000  # cells
N_GENES, REAL_N_GENES = 2_000, 16_906
REAL_CELLS = 200
OPTIMIZER = {"epochs": 1, "tokens_per_batch": 8192}
TINY = {
    "gene2vec": {"dim": 4},
    "network": {"dim": 4, "depth": 1, "heads": 1, "dim_head": 4, "n_features": 4, "ff_mult": 1},
    "pretrain": {
        "validation_by": "sample",
        "validation_fraction": 0.05,
        "optimizer": OPTIMIZER,
    },
}
ONE_EPOCH = {"pretrain": {"optimizer": {"epochs": 1}}}
N_BINS = 5


@dataclass(frozen=True)
class Run:
    """What a trainer took: peaks in MB, seconds on the clock, its record of the epoch."""

    cells: int
    resident: float  # VmHWM: with pages of the store's files
    own: float  # RssAnon: without them
    seconds: float
    epoch: dict[str, Any]


def write_corpus(folder: Path, n_cells: int, n_genes: int, tokens: int, dim: int) -> None:
    """Write store, vocabulary and gene vectors; each sample, a study of its own, holds the same."""
    rng, size = np.random.default_rng(0), min(SAMPLE, n_cells // 2)
    folder.mkdir()
    symbols = [f"GENE{number}" for number in range(n_genes)]
    vocabulary = pd.DataFrame({"symbol": symbols, "gene_id": symbols})
    vocabulary.to_csv(folder / "vocabulary.tsv", sep="\t", index=False)
    sha256 = vocabulary_sha256(vocabulary)
    bins = synthetic_bins(rng, size, n_genes, tokens)
    names = [f"SRA{number}_SRS{number}" for number in range(n_cells // size)]
    sources = [SampleSource(name, "", partial(sample_of, name, bins)) for name in names]
    said: StoreMeta = {"n_bins": N_BINS, "vocabulary_size": n_genes, "vocabulary_sha256": sha256}
    write_store(folder / "tokens", sources, said)
    (folder / "gene2vec").mkdir()
    vectors = rng.normal(0, 0.1, (n_genes, dim)).astype(np.float32)
    np.save(folder / "gene2vec/vectors.npy", vectors)
    write_json(folder / "gene2vec/meta.json", {"vocabulary_sha256": sha256})


def sample_of(name: str, bins: sparse.csr_matrix) -> Sample:
    """Return a sample that measured every gene."""
    cells = [f"{name}_{number:05d}" for number in range(bins.shape[0])]
    return Sample(name, cells, bins * np.uint8(LEVELS), N_BINS, np.arange(bins.shape[1]), 0)


def train(folder: Path, config: Config, n_cells: int) -> Run:
    """Run the script of the rule, and watch it."""
    given = {name: folder / name for name in ("tokens", "gene2vec", "pretrained", "checkpoint")}
    given |= {"vocabulary": folder / "vocabulary.tsv"}
    arguments = [str(part) for name, path in given.items() for part in (f"--{name}", path)]
    arguments += ["--settings", settings_for(PretrainSettings, config).model_dump_json()]
    command = [sys.executable, str(ROOT / "scripts/pretrain.py"), *arguments]
    started = time.perf_counter()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stderr=log, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        )
        resident, own = watch(process)
    if process.returncode:
        raise SystemExit((folder / "log").read_text())
    seconds = time.perf_counter() - started
    last = (folder / "pretrained/history.jsonl").read_text().splitlines()[-1]
    return Run(n_cells, resident, own, seconds, json.loads(last))


def watch(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Return the peaks of a process's VmHWM and RssAnon in MB, looking a hundred times a second."""
    peaks = {"VmHWM": 0, "RssAnon": 0}
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        for name, peak in peaks.items():
            if f"{name}:" in status:  # not when it has just ended
                peaks[name] = max(peak, int(status.split(f"{name}:")[1].split()[0]))
        time.sleep(0.01)
    return peaks["VmHWM"] / 1000, peaks["RssAnon"] / 1000


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the first with the values of the second, section by section."""
    both = first | second
    for key in first.keys() & second.keys():
        if isinstance(first[key], dict) and isinstance(second[key], dict):
            both[key] = merged(first[key], second[key])
    return both


def memory_table(runs: list[Run]) -> list[str]:
    """Return a line for each size of the corpus, beside the smallest."""
    lines = [
        "| cells | optimizer steps | s | peak resident MB | x smallest | of its own: MB "
        "| x smallest |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for run in runs:
        resident, own = run.resident / runs[0].resident, run.own / runs[0].own
        lines.append(
            f"| {run.cells:,} | {run.epoch['step']} | {run.seconds:.0f} | {run.resident:.0f} "
            f"| {resident:.3f} | {run.own:.0f} | {own:.3f} |"
        )
    return lines


def page(runs: list[Run], tiny: Network, real: Run, network: Network) -> str:
    """Return the page."""
    epoch = real.epoch
    lines = [
        "# The trainer: memory by the size of the corpus, and waiting for data",
        "\nWritten by `make bench-training`; do not edit. `scripts/pretrain.py` in a process of "
        f"its own, one thread, torch {torch.__version__}, {platform.machine()}.",
        "\n## Memory\n",
        f"Cells of about {SHORT} of {N_GENES:,} genes in samples of {SAMPLE:,}, 5 % held out by "
        f"study; a network of width {tiny.dim}, one epoch of batches of "
        f"{OPTIMIZER['tokens_per_batch']:,} tokens: what grows with the number of cells has little "
        "beside it to hide in. Resident is VmHWM, what schedulers add up: with libraries and "
        "with those pages of the store's files that are mapped. Of its own is the peak of "
        "RssAnon, looked at every 10 ms: without them.\n",
        *memory_table(runs),
        "\nWhat grows: the order of the cells of an epoch, their lengths while it is planned, and "
        "where each cell begins (mapped), about 8 bytes per cell each; the masks' scores of the "
        "held-out cells, 72 bytes each. Tokens do not: their pages are let go of after each "
        "batch.",
        "\n## Waiting for data\n",
        f"{real.cells} cells of about {LONG} tokens, as PanglaoDB's have; the network of "
        f"benchmarks/pool.yaml (width {network.dim}, {network.depth} layers), one epoch. Batches "
        "are made in a thread beside it; each process has one.\n",
        "| cells/s | tokens/s | share of time waiting for data |",
        "|---:|---:|---:|",
        f"| {epoch['cells_per_second']:.1f} | {epoch['tokens_per_second']:,.0f} "
        f"| {epoch['waiting_share']:.2%} |",
        "\nEven the tiny network above, which does next to nothing with a cell, waits "
        f"{runs[-1].epoch['waiting_share']:.1%} of its time at "
        f"{runs[-1].epoch['cells_per_second']:,.0f} cells/s "
        f"({runs[-1].epoch['tokens_per_second']:,.0f} tokens/s).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=CELLS)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results")
    options = parser.parse_args()
    default = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    pool = yaml.safe_load((ROOT / "benchmarks/pool.yaml").read_text())
    tiny = load_config(merged(default, TINY))
    large = load_config(merged(merged(default, pool), ONE_EPOCH))
    runs = [in_folder(tiny, n_cells, N_GENES, SHORT) for n_cells in options.cells]
    real = in_folder(large, REAL_CELLS, REAL_N_GENES, LONG)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "training.md").write_text(page(runs, tiny.network, real, large.network))


def in_folder(config: Config, n_cells: int, n_genes: int, tokens: int) -> Run:
    """Write a corpus and train on it in a folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        write_corpus(corpus, n_cells, n_genes, tokens, config.network.dim)
        run = train(corpus, config, n_cells)
    print(run, flush=True)
    return run


if __name__ == "__main__":
    main()
