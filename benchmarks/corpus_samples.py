"""Synthetic samples of PanglaoDB's shape: sizes, genes per cell and counts like its own."""

from pathlib import Path

import numpy as np
from panglaodb_samples import write_sample
from scipy import sparse

N_ROWS, GENES_PER_CELL = 30_000, 900  # rows of a human 10x file; PanglaoDB's mean above bin 0
MEDIAN_CELLS, MAX_CELLS, SPREAD = 2_756, 21_462, 1.0  # PanglaoDB, 305 human samples


def sample_sizes(n_cells: int, rng: np.random.Generator) -> list[int]:
    """Draw sizes of samples until together they have `n_cells`; the largest there is comes first.

    A corpus too small for it begins with one of its own size.
    """
    sizes = [min(MAX_CELLS, n_cells)]
    while (missing := n_cells - sum(sizes)) > 0:
        size = int(np.clip(rng.lognormal(np.log(MEDIAN_CELLS), SPREAD), 50, MAX_CELLS))
        sizes.append(min(size, missing))
    return sizes


def gene_names() -> list[str]:
    """Return row names as PanglaoDB writes them: SYMBOL_ENSEMBLID.VERSION."""
    return [f"GENE{number}_ENSG{number:011d}.1" for number in range(N_ROWS)]


def draw_counts(n_cells: int, rng: np.random.Generator) -> sparse.csc_matrix:
    """Draw UMI-like counts, shape (genes, cells).

    Expression over genes is log-normal, depth over cells too, counts are Poisson, and rates are
    scaled so that a cell of median depth expresses about 900 genes.
    """
    share = rng.lognormal(0, 2, N_ROWS)
    share /= share.sum()
    depth = _depth_for(share) * rng.lognormal(0, 0.4, n_cells)
    parts = []
    for start in range(0, n_cells, 1000):  # dense, so in parts
        parts.append(sparse.csc_matrix(rng.poisson(np.outer(share, depth[start : start + 1000]))))
    return sparse.hstack(parts, format="csc").astype(np.float64)


def _depth_for(share: np.ndarray) -> float:
    depths = np.geomspace(100, 100_000, 200)
    expressed = [np.sum(-np.expm1(-share * depth)) for depth in depths]
    return float(np.interp(GENES_PER_CELL, expressed, depths))


def write_synthetic(path: Path, n_cells: int, seed: int) -> None:
    """Write a .sparse.RData file of synthetic counts."""
    rng = np.random.default_rng(seed)
    counts = draw_counts(n_cells, rng)
    write_sample(path, counts, gene_names(), [f"CELL{number}" for number in range(n_cells)])
