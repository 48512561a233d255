"""Time and memory of the network at the paper's size, beside performer-pytorch's PerformerLM.

Each measurement is a process of its own, so that peak memory is its own; peer and ours take turns.
Run: make bench-network (writes docs/results/network.md and .svg; about 10 minutes on an idle
machine with two cores); python benchmarks/network.py --quick --out FOLDER for a trial.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import torch
from paper_size import ALL_GENES, PAPER
from performer_pytorch import PerformerLM
from scipy import sparse
from torch import nn
from torch.nn import functional

from scbert.cells.store import TokenStore, store_in_memory
from scbert.cells.tokens import LEVELS, Sample
from scbert.config import Network
from scbert.evidence.figures import BLUE, MUTED, VERMILION, Figure, svg_figure
from scbert.network.model import Encoder, MaskedExpressionModel
from scbert.training.batches import CellBatches

LENGTHS = (256, 1024, 4096, ALL_GENES)
N_BINS = 5
TOKENS_PER_BATCH = 8192  # of expressed genes
SLOW = 20  # seconds; what takes longer is measured once
NAMES = {"peer": "performer-pytorch", "performer": "ours, FAVOR+", "exact": "ours, exact softmax"}
MODES = ("forward", "training step")
Run = dict[str, float]  # seconds, gb
Found = dict[str, Run]  # by name, number of genes and mode


def build(name: str, n_genes: int) -> nn.Module:
    """Return the peer, or our network with one of its attentions, for cells of `n_genes` tokens."""
    if name == "peer":
        return PerformerLM(
            num_tokens=7,
            max_seq_len=n_genes,
            dim=200,
            depth=6,
            heads=10,
            nb_features=266,
            rotary_position_emb=False,  # with it, the peer would do work that scBERT does not
        )
    vectors = torch.randn(n_genes, PAPER.dim)
    settings = Network.model_validate(PAPER.model_dump() | {"attention": name})
    return MaskedExpressionModel(Encoder(settings, N_BINS, vectors, seed=0), PAPER.dim, N_BINS)


def cells_of(lengths: list[int], rng: np.random.Generator) -> TokenStore:
    """Return a store of cells with so many expressed genes each, drawn from the vocabulary."""
    genes = [np.sort(rng.choice(ALL_GENES, length, replace=False)) for length in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    bins = rng.integers(1, N_BINS + 1, indptr[-1]).astype(np.uint8)
    matrix = sparse.csr_matrix((bins, np.concatenate(genes), indptr), (len(lengths), ALL_GENES))
    names = [f"cell{number}" for number in range(len(lengths))]
    levels = matrix * np.uint8(LEVELS)
    return store_in_memory(Sample("benchmark", names, levels, N_BINS, np.arange(ALL_GENES), 0))


def measure(name: str, lengths: list[int], threads: int) -> dict[str, Run]:
    """Return seconds per cell and peak memory of this process, for each mode in turn."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = build(name, lengths[0] if len(lengths) == 1 else ALL_GENES)
    if len(lengths) == 1:
        tokens = torch.from_numpy(rng.integers(0, N_BINS + 1, (1, lengths[0])))
        genes, real = torch.arange(lengths[0])[None], torch.ones_like(tokens, dtype=torch.bool)
        batches = [(tokens,) if name == "peer" else (genes, tokens, real)]
    else:
        cells = CellBatches(cells_of(lengths, rng), "expressed_genes", N_BINS, TOKENS_PER_BATCH)
        made = cells.each(np.arange(len(lengths)))
        batches = [(batch.genes_BG, batch.tokens_BG, batch.real_BG) for batch in made]
    found = {}
    for mode, make in {"forward": forward, "training step": training_step}.items():
        work = make(model)
        work(tuple(part[:1, :256] for part in batches[0]))  # to warm up
        started = time.perf_counter()
        for batch in batches:
            work(batch)
        seconds = (time.perf_counter() - started) / len(lengths)
        found[mode] = {"seconds": seconds, "gb": peak_gb()}
    return found


def peak_gb() -> float:
    """Return the peak resident memory of this process.

    On Linux not getrusage: what that gives is never below the peak of the parent process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e6
    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes on macOS, kB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def forward(model: nn.Module) -> Callable[[tuple], None]:
    """Return a function that computes logits."""

    def work(batch: tuple) -> None:
        with torch.no_grad():
            model(*batch)

    model.eval()
    return work


def training_step(model: nn.Module) -> Callable[[tuple], None]:
    """Return a function that does a step of AdamW; every token is a target."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)

    def work(batch: tuple) -> None:
        tokens = batch[0] if len(batch) == 1 else batch[1].clamp(max=N_BINS)
        optimizer.zero_grad()
        functional.cross_entropy(model(*batch).flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()

    model.train()
    return work


def in_process(name: str, lengths: list[int], threads: int) -> dict[str, Run]:
    """Measure in a fresh process."""
    arguments = json.dumps([name, lengths, threads])
    command = [sys.executable, __file__, "--measure", arguments]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(run.stdout)
    print(f"{NAMES[name]}, {len(lengths)} cell(s) of {lengths[0]} genes: {found}", flush=True)
    return found


def take_turns(what: dict[str, tuple[str, list[int]]], runs: int, threads: int) -> Found:
    """Return the medians of each measurement; in every round each has its turn."""
    rounds: dict[str, list[dict[str, Run]]] = {key: [] for key in what}
    for _ in range(runs):
        for key, (name, lengths) in what.items():
            if all(run["seconds"] < SLOW for found in rounds[key] for run in found.values()):
                rounds[key].append(in_process(name, lengths, threads))
    return {
        f"{key} {mode}": {
            unit: statistics.median(found[mode][unit] for found in some)
            for unit in ("seconds", "gb")
        }
        for key, some in rounds.items()
        for mode in MODES
    }


def real_lengths() -> tuple[np.ndarray, str]:
    """Return how many genes of scBERT's vocabulary are in bin 1 or above, per cell of pbmc8k.

    Where that file is not at hand: log-normal around 900, as in PanglaoDB.
    """
    folder = Path(os.environ.get("SCBERT_SHARED_DATA", "../shared/data"))
    if not (folder / "pbmc8k_labelled.h5ad").exists():
        drawn = np.random.default_rng(0).lognormal(np.log(900), 0.6, 3000)
        return np.clip(drawn, 200, 5000).astype(int), "synthetic cells (pbmc8k is not here)"
    cells = anndata.read_h5ad(folder / "pbmc8k_labelled.h5ad")
    genes = (folder / "gene2vec/scbert_genes_16906.txt").read_text().split()
    counts = sparse.csr_matrix(cells.X)
    one_cp10k = counts.sum(axis=1).A1 / 1e4  # log2(1 + 1) = 1: the edge of bin 1
    known = counts[:, cells.var_names.isin(genes)].multiply(1 / one_cp10k[:, None])
    return np.asarray((known >= 1).sum(axis=1)).ravel(), "cells of pbmc8k"


def padding(lengths: np.ndarray, budget: int) -> float:
    """Return the share of padding in an epoch of shuffled batches."""
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    store = TokenStore(
        gene=np.zeros(0, np.uint16),
        level=np.zeros(0, np.uint8),
        n_bins=N_BINS,
        indptr=indptr,
        sample=np.zeros(len(lengths), np.int64),
        measured=np.ones((1, 1), dtype=bool),
        names=[],
        meta={},
    )
    cells = CellBatches(store, "expressed_genes", N_BINS, budget)
    plan = cells.plan(np.arange(len(lengths)), np.random.default_rng(0))
    return 1 - lengths.sum() / sum(len(rows) * lengths[rows].max() for rows in plan)


def lengths_table(found: Found, lengths: list[int]) -> list[str]:
    """Return seconds and GB of all three at each length, and the ratios of peer to ours."""
    lines = []
    for mode in MODES:
        lines += [
            f"\n### One cell, {mode}\n",
            "| genes | " + " | ".join(f"{name}: s | GB" for name in NAMES.values()) + " | "
            "performer-pytorch / FAVOR+ | FAVOR+ / exact |",
            "|" + "---:|" * 9,
        ]
        for length in lengths:
            run = {name: found[f"{name} {length} {mode}"] for name in NAMES}
            peer, performer, exact = (run[name]["seconds"] for name in NAMES)
            numbers = [f"{some['seconds']:.3f} | {some['gb']:.2f}" for some in run.values()]
            lines.append(
                f"| {length:,} | {' | '.join(numbers)} | {peer / performer:.2f} "
                f"| {performer / exact:.2f} |"
            )
    return lines


def expressed_table(found: Found, lengths: list[int], longest: int, source: str) -> list[str]:
    """Return seconds per cell with expressed genes only, beside the peer with all genes."""
    lines = [
        f"\n### expressed_genes: {len(lengths)} {source}, {np.mean(lengths):.0f} genes on average, "
        f"{TOKENS_PER_BATCH:,} tokens per batch\n",
        f"| per cell | performer-pytorch, {longest:,} genes: s | ours: s | ratio | ours: GB |",
        "|---|---:|---:|---:|---:|",
    ]
    for mode in MODES:
        peer, ours = found[f"peer {longest} {mode}"], found[f"expressed {mode}"]
        lines.append(
            f"| {mode} | {peer['seconds']:.2f} | {ours['seconds']:.4f} "
            f"| {peer['seconds'] / ours['seconds']:.0f} | {ours['gb']:.2f} |"
        )
    return lines


def padding_table(lengths: np.ndarray, source: str) -> list[str]:
    """Return the share of padding under several budgets, for real and for wide distributions."""
    rng = np.random.default_rng(0)
    wide = np.clip(rng.lognormal(np.log(900), 1.0, 5000), 20, 9000).astype(int)
    budgets = (2048, 8192, 65536)
    lines = [
        "\n### Padding, share of all positions\n",
        "| cells | " + " | ".join(f"{budget:,} tokens per batch" for budget in budgets) + " |",
        "|---|" + "---:|" * len(budgets),
    ]
    for name, some in (
        (f"{len(lengths):,} {source}", lengths),
        ("5,000, log-normal with sigma 1", wide),
        ("300 of these", wide[:300]),
    ):
        shares = [f"{padding(some, budget):.1%}" for budget in budgets]
        lines.append(f"| {name} | {' | '.join(shares)} |")
    return lines


TICKS = {"seconds": (0.1, 1, 10, 100), "gb": (0.5, 1, 2, 4, 8)}


@svg_figure
def draw(found: Found, lengths: list[int]) -> Figure:
    """Draw time and memory of a training step against the number of genes."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    styles = {"peer": (MUTED, "s"), "performer": (BLUE, "o"), "exact": (VERMILION, "^")}
    titles = {"seconds": "Training step, seconds per cell", "gb": "Peak memory, GB"}
    for axes, (unit, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for name, (colour, marker) in styles.items():
            values = [found[f"{name} {length} training step"][unit] for length in lengths]
            axes.loglog(lengths, values, color=colour, marker=marker, label=NAMES[name])
        axes.set(title=title, xlabel="genes")
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.set_yticks(TICKS[unit], [f"{tick:g}" for tick in TICKS[unit]])
        axes.minorticks_off()
        axes.grid(visible=True)
    axes.legend()
    return figure


def main() -> None:
    """Measure, and write the tables and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="processes per measurement")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one run, up to 1,024 genes")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
        return
    runs, lengths = (1, [256, 1024]) if options.quick else (options.runs, list(LENGTHS))
    all_cells, source = real_lengths()
    chosen = np.random.default_rng(0).choice(all_cells, 8 if options.quick else 40).tolist()
    what = {f"{name} {length}": (name, [length]) for length in lengths for name in NAMES}
    what["expressed"] = ("performer", chosen)
    found = take_turns(what, runs, options.threads)
    lines = [
        "# The network: time and memory",
        "\nWritten by `make bench-network`; do not edit. The paper's size (6 layers of width 200, "
        "10 heads of 64, 266 features, feed-forward 4 times as wide), float32, "
        f"{options.threads} threads, torch {torch.__version__}; medians of {runs} processes, "
        f"taking turns; what takes more than {SLOW} s is measured once. GB: peak resident memory "
        "of the process. The peer is performer-pytorch's PerformerLM without rotary embedding. A "
        "training step is forward, backward and AdamW.",
        *lengths_table(found, lengths),
        *expressed_table(found, chosen, lengths[-1], source),
        *padding_table(all_cells, source),
        "\n![Time and memory against number of genes](network.svg)",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "network.md").write_text("\n".join(lines) + "\n")
    (options.out / "network.svg").write_text(draw(found, lengths))


if __name__ == "__main__":
    main()
