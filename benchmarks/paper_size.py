"""The paper's network, as the benchmarks measure it."""

from scbert.config import Network

ALL_GENES = 16_907  # the paper's sequence
PAPER = Network(
    dim=200,
    depth=6,
    heads=10,
    dim_head=64,
    n_features=266,
    ff_mult=4,
    attention="performer",
    stabilizer="head",
    qk_rms=None,
    dropout=0,
    gene_identity="frozen",
)
