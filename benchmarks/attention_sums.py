"""Attention sums of a cell at the paper's size: beside a forward pass, and beside the matrices.

Each measurement of memory is a process of its own. The matrices are formed for one head at a time,
the most that fits at full length, and counted for ten.
Run: make bench-explain (prints two tables); python benchmarks/attention_sums.py --help for less.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from paper_size import ALL_GENES, PAPER

from scbert.network.attention import PerformerAttention
from scbert.network.attention_sums import attention_sums, sums_of_attention
from scbert.network.inspection import key_features, query_features, sum_of_keys
from scbert.network.model import Encoder

LENGTHS = (1024, 2048, 4096, 8192, ALL_GENES)


def seconds(work: Callable[[], object], runs: int) -> float:
    """Return the median of some runs, in CPU seconds: other work on the machine hardly counts."""
    times = []
    for _ in range(runs):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return statistics.median(times)


@torch.no_grad()
def measure(mode: str, n_genes: int, threads: int, runs: int) -> dict[str, float]:
    """Return CPU seconds of a forward pass, or of the sums with it, and memory on top of weights.

    Peak memory counts from when the weights and the cell are there: torch itself takes the same in
    both.
    """
    torch.set_num_threads(threads)
    encoder = Encoder(PAPER, 5, torch.randn(n_genes, PAPER.dim), seed=0).eval()
    cell = (
        torch.arange(n_genes)[None],
        torch.randint(0, 6, (1, n_genes)),
        torch.ones(1, n_genes, dtype=torch.bool),
    )
    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes on macOS, kB elsewhere
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = seconds(
        lambda: attention_sums(encoder, *cell) if mode == "sums" else encoder(*cell), runs
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": took, "gb": (peak - before) / unit, "total_gb": peak / unit}


def in_process(*arguments: str) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--measure", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@torch.no_grad()
def compare_with_matrices(n_genes: int, runs: int) -> tuple[float, float]:
    """Return CPU seconds of one layer's sums of ten heads, and of their matrices' column sums."""
    attention = PerformerAttention(PAPER.dim_head, PAPER.n_features, PAPER.stabilizer, seed=0)
    q_BHGE, k_BHGE = torch.randn(2, 1, PAPER.heads, n_genes, PAPER.dim_head)
    real_BG = torch.ones(1, n_genes, dtype=torch.bool)

    def matrix_of_one_head() -> torch.Tensor:
        q, k, w = q_BHGE[:, :1], k_BHGE[:, :1], attention.projection_ME
        _, highest = sum_of_keys(k, real_BG, attention, n_genes)
        scores = query_features(q, w) @ key_features(k, real_BG, w, highest).mT
        return scores.div_(scores.sum(dim=-1, keepdim=True)).mean(dim=2)

    def sums() -> torch.Tensor:
        return sums_of_attention(attention, q_BHGE, k_BHGE, real_BG)

    assert torch.allclose(sums()[:, :1], matrix_of_one_head(), rtol=1e-3, atol=0)
    return seconds(sums, runs), PAPER.heads * seconds(matrix_of_one_head, runs)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--genes", type=int, default=ALL_GENES, help="tokens of the cell")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        mode, *numbers = options.measure
        print(json.dumps(measure(mode, *map(int, numbers))))
        return
    size = [str(options.genes), str(options.threads), str(options.runs)]
    print(f"One cell of {options.genes:,} tokens, 6 layers, 10 heads, {options.threads} threads.\n")
    print("| | CPU s | GB on top of the weights | GB of the process |")
    print("|---|---|---|---|")
    for mode in ("forward", "sums"):
        found = in_process(mode, *size)
        print(
            f"| {mode} | {found['seconds']:.2f} | {found['gb']:.2f} | {found['total_gb']:.2f} |",
            flush=True,
        )
    torch.set_num_threads(options.threads)
    print("\nOne layer, CPU seconds.\n\n| tokens | sums | matrices | ratio |\n|---|---|---|---|")
    for n_genes in LENGTHS:
        ours, theirs = compare_with_matrices(n_genes, options.runs)
        print(f"| {n_genes:,} | {ours:.3f} | {theirs:.2f} | {theirs / ours:.1f} |", flush=True)


if __name__ == "__main__":
    main()
