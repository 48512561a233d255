"""Synthetic samples of PanglaoDB's shape: sizes, genes per cell and counts like its own."""

import sys
from pathlib import Path

import numpy as np
from scipy import sparse

sys.path.append(str(Path(__file__).parents[1]))
from tests.panglaodb_samples import write_sample

N_ROWS, GENES_PER_CELL = 30_000, 900  # rows of a human 10x file; PanglaoDB's mean above bin 0
# PanglaoDB's 305 human samples: median 2,756 cells, largest 21,462. Sizes are drawn log-normal and
# rounded to these, so that a corpus needs no more files than these.
MEDIAN, SPREAD = 2_756, 1.0
SIZES = (300, 700, 1_300, 1_900, 2_756, 4_000, 6_000, 9_000, 14_000, 21_462)


def sample_sizes(n_cells: int, rng: np.random.Generator) -> list[int]:
    """Draw sizes of samples, beginning with the largest that fits, until there are `n_cells`."""
    sizes = [max((size for size in SIZES if size <= n_cells), default=SIZES[0])]
    while sum(sizes) < n_cells:
        drawn = rng.lognormal(np.log(MEDIAN), SPREAD)
        sizes.append(min(sizes[0], min(SIZES, key=lambda size: abs(np.log(size / drawn)))))
    return sizes


def gene_names() -> list[str]:
    """Return row names as PanglaoDB writes and sorts them: SYMBOL_ENSEMBLID.VERSION."""
    return sorted(f"GENE{number}_ENSG{number:011d}.1" for number in range(N_ROWS))


def draw_counts(n_cells: int, rng: np.random.Generator) -> sparse.csc_matrix:
    """Draw UMI-like counts, shape (genes, cells).

    Shares of genes and depths of cells are log-normal, counts are Poisson, and a cell of median
    depth expresses about 900 genes.
    """
    share = rng.lognormal(0, 2, N_ROWS)
    share /= share.sum()
    depth = _depth_for(share) * rng.lognormal(0, 0.4, n_cells)
    parts = [  # dense, so a few at once
        sparse.csc_matrix(rng.poisson(np.outer(share, depth[start : start + 500])))
        for start in range(0, n_cells, 500)
    ]
    return sparse.csc_matrix(sparse.hstack(parts), dtype=np.float64)


def _depth_for(share: np.ndarray) -> float:
    depths = np.geomspace(100, 100_000, 200)
    expressed = [np.sum(-np.expm1(-share * depth)) for depth in depths]
    return float(np.interp(GENES_PER_CELL, expressed, depths))


def write_synthetic(path: Path, n_cells: int) -> None:
    """Write a .sparse.RData file of synthetic counts; its size is its seed."""
    counts = draw_counts(n_cells, np.random.default_rng(n_cells))
    write_sample(path, counts, gene_names(), [f"CELL{number}" for number in range(n_cells)])
