"""Recognition of training cells in a test file: after gene filters, and false alarms.

Run: python benchmarks/seen_cells.py DATA

DATA holds labelled files and a folder corpora (STUDIES below). Of each study four
fifths of the cells are training cells. Prints a table for docs/decisions/evaluation.md.
"""

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse

from scbert.cells.read import gene_names
from scbert.config import Normalization
from scbert.genes.matching import match_genes
from scbert.shipped import BENCHMARK_ENCODER, model_folder
from scbert.tokens.store import store_in_memory
from scbert.tokens.tokenize import expression_of_counts, tokenize
from scbert.training.bundle import load_pretrained
from scbert.training.seen_cells import Recognized, SeenCells, recognize, seen_cells

STUDIES = {
    "pbmc3k": "pbmc3k_labelled",
    "pbmc8k": "pbmc8k_labelled",
    "kidney_immune": "corpora/kidney_immune_1000",
    "geact": "corpora/geact_fetal_7organs",
    "baron": "corpora/baron_human1",
    "kang": "kang_ctrl12261x1287_labelled",
    "chung": "corpora/chung2017_breast",
}
NORMALIZATION = Normalization(target_sum=10_000, denominator="library")
LEFT_OUT = r"^(MT-|RP[SL])"


def main(data: Path) -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    genes = load_pretrained(model_folder(BENCHMARK_ENCODER)).genes
    studies = {name: _read(data / f"{file}.h5ad") for name, file in STUDIES.items()}
    print(
        "| study | cells | genes a cell | filter | shared genes | recognized | not compared "
        "| others, same study | seconds |\n|---|---:|---:|---|---:|---:|---:|---:|---:|"
    )
    for name, cells in studies.items():
        training = np.zeros(cells.n_obs, dtype=bool)
        training[np.random.default_rng(0).permutation(cells.n_obs)[: cells.n_obs * 4 // 5]] = True
        seen = _seen(cells[training], genes)
        depth = np.median(np.diff(cells.X.indptr))
        for change, changed in _changed(cells):
            start = time.perf_counter()
            expression = _expression(changed, genes)
            found = recognize(seen, expression)
            shared = int((expression.tocsc()[:, seen.genes].getnnz(axis=0) > 0).sum())
            print(
                f"| {name} | {cells.n_obs:,} | {depth:,.0f} | {change} | {shared:,} "
                f"| {found.seen[training].mean():.3f} | {1 - found.compared.mean():.3f} "
                f"| {found.seen[~training].mean():.4f} | {time.perf_counter() - start:.1f} |",
                flush=True,
            )
        others = [
            recognize(seen, _expression(other, genes))
            for key, other in studies.items()
            if key != name
        ]
        print(f"| {name} | | | other studies | | | | {_share(others)} | |", flush=True)


def _share(found: list[Recognized]) -> str:
    wrong = sum(int(one.seen.sum()) for one in found)
    return f"{wrong} of {sum(len(one.seen) for one in found):,}"


def _read(file: Path) -> ad.AnnData:
    cells = ad.read_h5ad(file)
    cells.X = sparse.csr_matrix(cells.X, dtype=np.float32)
    cells.var_names_make_unique()
    return cells


def _changed(cells: ad.AnnData) -> Iterator[tuple[str, ad.AnnData]]:
    """Yield the cells as people filter them."""
    rare = cells.copy()
    yield "none", cells
    sc.pp.filter_genes(rare, min_cells=3)
    yield "min_cells=3", rare
    ten = cells.copy()
    sc.pp.filter_genes(ten, min_cells=10)
    yield "min_cells=10", ten
    yield "no MT, ribosomal", cells[:, ~cells.var_names.str.contains(LEFT_OUT)].copy()
    logged = rare.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    yield "min_cells=3, log1p", logged
    for flavor, source in (("seurat", logged), ("cell_ranger", logged)):
        chosen = logged.copy()
        sc.pp.highly_variable_genes(chosen, n_top_genes=2000, flavor=flavor)
        kept = chosen.var_names[chosen.var.highly_variable]
        yield f"2,000 HVG ({flavor})", cells[:, kept].copy()
        kept = kept[~kept.str.contains(LEFT_OUT)]
        yield f"2,000 HVG ({flavor}), no MT, ribosomal, log1p", source[:, kept].copy()

    for number in (2000, 1000):
        kept = np.random.default_rng(1).permutation(cells.n_vars)[:number]
        yield f"{number:,} genes by chance", cells[:, np.sort(kept)].copy()


def _expression(cells: ad.AnnData, genes: pd.DataFrame) -> sparse.csr_matrix:
    match = match_genes(gene_names(cells.var), genes)
    counts = sparse.csr_matrix(cells.X).astype(np.float64)
    if "log1p" in cells.uns:
        counts.data = np.expm1(counts.data)
    library = np.asarray(counts.sum(axis=1)).ravel()
    return expression_of_counts(counts, library, match, NORMALIZATION)


def _seen(cells: ad.AnnData, genes: pd.DataFrame) -> SeenCells:
    match = match_genes(gene_names(cells.var), genes)
    sample = tokenize("s", list(cells.obs_names), _expression(cells, genes), match.measured, 5)
    return seen_cells(store_in_memory(sample), np.arange(cells.n_obs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    main(parser.parse_args().data)
