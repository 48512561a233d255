"""Time and memory of the network at the paper's size, beside performer-pytorch's PerformerLM.

Each measurement is a process of its own, so that peak memory is its own; peer and ours take turns.
Run: make bench (prints a table); python benchmarks/network.py --help for shorter runs.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from performer_pytorch import PerformerLM
from torch import nn

from scbert.config import Network
from scbert.network.model import Encoder, MaskedExpressionModel

ALL_GENES = 16_907  # the paper's sequence
N_BINS = 5
PAPER = Network(
    dim=200,
    depth=6,
    heads=10,
    dim_head=64,
    n_features=266,
    ff_mult=4,
    attention="performer",
    stabilizer="head",
    dropout=0,
    gene_identity="frozen",
)


def build(name: str, n_genes: int) -> nn.Module:
    """Return the peer, or our network, for cells of `n_genes` tokens."""
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
    return MaskedExpressionModel(Encoder(PAPER, N_BINS, vectors, seed=0), PAPER.dim, N_BINS)


def measure(name: str, mode: str, n_genes: int, threads: int) -> dict[str, float]:
    """Return seconds of one forward pass or training step of one cell, and peak memory in GB."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = build(name, n_genes)
    tokens = torch.randint(0, N_BINS + 1, (1, n_genes))
    genes, real = torch.arange(n_genes)[None], torch.ones(1, n_genes, dtype=torch.bool)
    inputs = (tokens,) if name == "peer" else (genes, tokens, real)
    started = time.perf_counter()
    if mode == "forward":
        with torch.no_grad():
            model.eval()(*inputs)
    else:
        model.train()(*inputs).square().mean().backward()
    seconds = time.perf_counter() - started
    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes on macOS, kB elsewhere
    return {"seconds": seconds, "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}


def in_process(*arguments: str) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--measure", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(mode: str, peer_genes: int, our_genes: int, options: argparse.Namespace) -> None:
    """Print a line: medians of both, and the ratios."""
    runs: dict[str, list[dict[str, float]]] = {"peer": [], "ours": []}
    for _ in range(options.runs):
        for name, n_genes in (("peer", peer_genes), ("ours", our_genes)):
            runs[name].append(in_process(name, mode, str(n_genes), str(options.threads)))
    median = {
        (name, key): statistics.median(run[key] for run in found)
        for name, found in runs.items()
        for key in ("seconds", "gb")
    }
    peer, ours = median["peer", "seconds"], median["ours", "seconds"]
    print(
        f"| {mode} | {peer_genes:,} | {our_genes:,} | {peer:.2f} | {ours:.2f} | {peer / ours:.1f} "
        f"| {median['peer', 'gb']:.2f} | {median['ours', 'gb']:.2f} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--genes", type=int, default=ALL_GENES, help="tokens of the peer")
    parser.add_argument("--expressed", type=int, default=941, help="expressed genes of a cell")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, mode, n_genes, threads = options.measure
        print(json.dumps(measure(name, mode, int(n_genes), int(threads))))
        return
    print(f"One cell, {options.threads} threads, median of {options.runs}; seconds and peak GB.\n")
    print("| | tokens peer | tokens ours | s peer | s ours | ratio | GB peer | GB ours |")
    print("|---|---|---|---|---|---|---|---|")
    for mode in ("forward", "training step"):
        compare(mode, options.genes, options.genes, options)
        compare(mode, options.genes, options.expressed, options)


if __name__ == "__main__":
    main()
