"""Attention that collapses to a mean as queries and keys grow, and what `qk_rms` makes of it.

One layer with two heads of the paper's size on one cell, by the diagnostics of pretraining; the
weights of queries and keys are multiplied until their entries have a standard deviation. The gene
vectors are random, or lie around a few centres, as vectors of co-expressed genes do.
Run: python benchmarks/collapse.py (prints a table); --help for less.
"""

import argparse

import torch
from paper_size import ALL_GENES, PAPER
from torch import Tensor

from scbert.config import Network
from scbert.network.diagnostics import diagnose_attention
from scbert.network.model import Encoder

N_BINS = 5
N_CENTRES, SPREAD = 10, 0.3  # the centres have a spread of 1
# Heads are measured each on its own, so two of the ten will do.
ONE_LAYER = PAPER.model_copy(update={"depth": 1, "heads": 2})


def draw_gene_vectors(n_genes: int, kind: str) -> Tensor:
    """Return vectors of shape (n_genes, width), each entry with a spread of about 1."""
    generator = torch.Generator().manual_seed(0)
    noise_GD = torch.randn(n_genes, ONE_LAYER.dim, generator=generator)
    if kind == "random":
        return noise_GD
    centres = torch.randn(N_CENTRES, ONE_LAYER.dim, generator=generator)
    own = torch.randint(0, N_CENTRES, (n_genes,), generator=generator)
    return centres[own] + SPREAD * noise_GD


@torch.no_grad()
def measure(vectors_GD: Tensor, std: float, qk_rms: float | None, attention: str) -> dict:
    """Return the diagnostics of the layer, queries and keys having this standard deviation."""
    torch.manual_seed(0)
    settings = ONE_LAYER.model_dump() | {"qk_rms": qk_rms, "attention": attention}
    encoder = Encoder(Network.model_validate(settings), N_BINS, vectors_GD, seed=0).eval()
    genes_BG = torch.arange(len(vectors_GD))[None]
    tokens_BG = torch.randint(0, N_BINS + 1, genes_BG.shape)
    block = encoder.performer.net.layers[0][0]
    x_BGD = block.norm(encoder.token(tokens_BG) + encoder.gene(genes_BG))
    for project in (block.fn.to_q, block.fn.to_k):
        project.weight *= std / project(x_BGD).std()
    real_BG = torch.ones_like(genes_BG, dtype=torch.bool)
    return diagnose_attention(encoder, genes_BG, tokens_BG, real_BG, seed=0)[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genes", type=int, default=ALL_GENES, help="tokens of the cell")
    parser.add_argument("--std", type=float, nargs="+", default=[0.5, 1, 2, 4])
    parser.add_argument("--rms", type=float, nargs="*", default=[0.4, 0.5, 0.58, 0.7, 1.0])
    options = parser.parse_args()
    print(
        f"One layer, {options.genes:,} tokens, {ONE_LAYER.heads} heads of {ONE_LAYER.dim_head}, "
        f"{ONE_LAYER.n_features} features.\n\n"
        "| genes | std of q, k | qk_rms | at floor | from uniform | from softmax "
        "| softmax from uniform |\n|---|---|---|---|---|---|---|"
    )
    for kind in ("random", "clustered"):
        vectors_GD = draw_gene_vectors(options.genes, kind)
        for std in options.std:
            for qk_rms in (None, *options.rms):
                favor, exact = (
                    measure(vectors_GD, std, qk_rms, attention)
                    for attention in ("performer", "exact")
                )
                print(
                    f"| {kind} | {std} | {qk_rms or 'null'} | {100 * favor['at_floor']:.1f} % "
                    f"| {favor['from_uniform']:.3f} | {favor['from_softmax']:.3f} "
                    f"| {exact['from_uniform']:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
