"""Normalising 5,000 cells as the original's preprocess.py does, beside rule normalize_counts.

Written from a description of what preprocess.py does, not from its code: a matrix in list-of-lists
form is filled column by column, with the first column of each gene of the vocabulary, found by
its place in a list; then scanpy's filter_cells, normalize_total and log1p. To its advantage the
counts are given as CSC, from which a column is cheap. Run: make bench-corpus.
"""

import argparse
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from corpus_samples import N_ROWS, draw_counts
from processes import Cost, measure
from scipy import sparse

from scbert.cells.genes import read_vocabulary
from scbert.cells.tables import write_table
from scbert.config import Normalization
from scbert.steps.tokenize import normalize_counts

N_GENES, MIN_GENES = 16_906, 200


def original(counts: Path, vocabulary: Path, expression: Path) -> None:
    """Do what preprocess.py does."""
    adata, reference = ad.read_h5ad(counts), read_vocabulary(vocabulary).symbol.tolist()
    symbols, columns = adata.var_names.tolist(), adata.X.tocsc()
    aligned = sparse.lil_matrix((adata.n_obs, len(reference)), dtype=np.float32)
    for number, symbol in enumerate(reference):
        if symbol in symbols:
            aligned[:, number] = columns[:, symbols.index(symbol)]
    result = ad.AnnData(aligned.tocsr(), obs=adata.obs, var=pd.DataFrame(index=reference))
    sc.pp.filter_cells(result, min_genes=MIN_GENES)
    sc.pp.normalize_total(result, target_sum=1e4)
    sc.pp.log1p(result, base=2)
    result.write_h5ad(expression)


def write_inputs(counts: Path, vocabulary: Path, n_cells: int) -> None:
    """Write synthetic counts as read_counts does, and a vocabulary of some of their genes."""
    x = sparse.csr_matrix(draw_counts(n_cells, np.random.default_rng(0)).T, dtype=np.float32)
    x = x[x.getnnz(axis=1) >= 2 * MIN_GENES]
    symbols = [f"GENE{number}" for number in range(N_ROWS)]
    var = pd.DataFrame({"symbol": symbols, "gene_id": ""}, index=symbols)
    obs = pd.DataFrame(
        {"library_size": x @ np.ones(N_ROWS)}, index=[f"CELL{n}" for n in range(x.shape[0])]
    )
    ad.AnnData(x, obs, var).write_h5ad(counts)
    chosen = np.sort(np.random.default_rng(0).choice(symbols, N_GENES, replace=False))
    write_table(vocabulary, pd.DataFrame({"symbol": chosen, "gene_id": ""}))


def main() -> None:
    """Print time and memory of both, and whether they agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=5_000)
    n_cells = parser.parse_args().cells
    settings = Normalization(target_sum=1e4, denominator="vocabulary")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        counts, vocabulary = path / "counts.h5ad", path / "vocabulary.tsv"
        measure(write_inputs, counts, vocabulary, n_cells)
        peer = measure(original, counts, vocabulary, path / "peer.h5ad")
        written = (path / "ours.h5ad", path / "overlap.json")
        ours = measure(normalize_counts, counts, vocabulary, *written, settings)
        found, expected = (ad.read_h5ad(path / f"{name}.h5ad") for name in ("ours", "peer"))
        shared = expected[found.obs_names.intersection(expected.obs_names), found.var_names].X
        difference = np.abs((found[found.obs_names.isin(expected.obs_names)].X - shared).data)
    print(f"\n{n_cells:,} cells, {N_ROWS:,} genes; largest difference {difference.max():.1e}\n")
    print("| | s | cells/s | peak MB | time | memory |")
    print("|---|---|---|---|---|---|")
    _print("normalize_counts", n_cells, ours, ours)
    _print("preprocess.py, as described", n_cells, peer, ours)


def _print(name: str, cells: int, cost: Cost, reference: Cost) -> None:
    print(
        f"| {name} | {cost.seconds:.1f} | {cells / cost.seconds:,.0f} | {cost.peak_mb:,.0f} "
        f"| {cost.seconds / reference.seconds:.0f} x | {cost.peak_mb / reference.peak_mb:.1f} x |"
    )


if __name__ == "__main__":
    main()
