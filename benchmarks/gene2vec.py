"""Pairs and gene vectors from real cells: time, memory, and what the vectors know.

Run: make bench-gene2vec CELLS=pool.h5ad GENE_SETS="a.gmt b.gmt" PAIRS="ggipnn_{part}_{kind}.txt.gz"

CELLS is an .h5ad of raw counts with a column `batch` in obs: each batch is a sample. The settings
are those of config/config.yaml, at 200 dimensions; --pairs-settings and --settings change them.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import yaml
from scipy import sparse

from scbert.cells.expression import normalize
from scbert.cells.gene2vec import train_vectors
from scbert.cells.pairs import coexpressed_pairs
from scbert.config import load_config
from scbert.logs import start_logging
from scbert.steps.gene2vec import neighbours
from scbert.steps.gene2vec_quality import PARTS, judge_all

ROOT = Path(__file__).parents[1]
MAX_GENES = 16_906


def main() -> None:
    """Print the tables."""
    start_logging()
    options = read_options()
    config = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    finding = config.pairs.model_copy(update=options.pairs_settings)
    training = config.gene2vec.model_copy(update={"dim": 200} | options.settings)
    samples, symbols, n_cells = read_samples(options.cells)
    pooled = find_all(samples, finding)
    del samples
    vectors: dict[str, list[np.ndarray]] = {"gene2vec": []}
    for seed in range(options.seeds):
        for method, name in (("skipgram", "gene2vec"), ("svd", "svd")):
            started = time.perf_counter()
            chosen = training.model_copy(update={"method": method, "seed": seed})
            found, met = train_vectors(pooled, len(symbols), chosen)
            vectors.setdefault(name, []).append(found)
            report(f"{method}, seed {seed}", time.perf_counter() - started)
    rng = np.random.default_rng(config.gene2vec_quality.seed)
    draws = range(config.gene2vec_quality.random_vectors)
    vectors["random"] = [rng.normal(size=found.shape) for _ in draws]
    print(f"\n{met.sum():,} of {len(met):,} genes met one of {len(pooled):,} pairs")
    print_neighbours(vectors, met, symbols)
    vectors = {name: [one[met] for one in arrays] for name, arrays in vectors.items()}
    files = [
        Path(options.pairs.format(part=part, kind=kind))
        for part in PARTS
        for kind in ("text", "label")
        if options.pairs
    ]
    known = [symbol for symbol, one in zip(symbols, met, strict=True) if one]
    judging = config.gene2vec_quality.model_copy(update={"max_genes_per_set": options.max_genes})
    started = time.perf_counter()
    measures = judge_all(vectors, known, n_cells[met], options.gene_sets, files, judging)
    print_measures(measures)
    report("judging", time.perf_counter() - started)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", type=Path)
    parser.add_argument("--gene-sets", type=Path, nargs="*", default=[])
    parser.add_argument("--pairs", default="", help="labelled pairs, with {part} and {kind}")
    parser.add_argument("--max-genes", type=int, default=50, help="larger gene sets are left out")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs-settings", type=json.loads, default={})
    parser.add_argument("--settings", type=json.loads, default={})
    return parser.parse_args()


def read_samples(cells: Path) -> tuple[dict[str, sparse.csr_matrix], list[str], np.ndarray]:
    """Return log2(1 + CP10K) of each batch, the most widely expressed genes, and their cells."""
    adata = ad.read_h5ad(cells)
    counts = sparse.csr_matrix(adata.X, dtype=np.float64)
    n_cells = counts.getnnz(axis=0)
    kept = np.sort(np.argsort(-n_cells, kind="stable")[:MAX_GENES])
    library = np.asarray(counts.sum(axis=1)).ravel()
    expression = normalize(counts[:, kept], library, 1e4)
    batches = adata.obs.batch.astype(str)
    samples = {name: expression[(batches == name).to_numpy()] for name in batches.unique()}
    return samples, adata.var_names[kept].tolist(), n_cells[kept]


def find_all(samples: dict[str, sparse.csr_matrix], settings: Any) -> np.ndarray:
    """Find the pairs of every sample, writing them as the workflow does."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        print("\n| sample | cells | pairs | s | peak memory, MB |\n|---|---|---|---|---|")
        for name, expression in samples.items():
            started = time.perf_counter()
            pairs = coexpressed_pairs(expression, settings)
            files.append(Path(folder, f"{name}.npy"))
            np.save(files[-1], pairs)
            spent = time.perf_counter() - started
            n_cells = expression.shape[0]
            print(f"| {name} | {n_cells:,} | {len(pairs):,} | {spent:.1f} | {peak():,.0f} |")
        return np.concatenate([np.load(file, mmap_mode="r") for file in files])


def peak() -> float:
    """Return the peak memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(what: str, seconds: float) -> None:
    """Print what one step took."""
    print(
        f"{what}: {seconds:.1f} s, peak memory of the process so far {peak():,.0f} MB", flush=True
    )


def print_neighbours(
    vectors: dict[str, list[np.ndarray]], met: np.ndarray, symbols: list[str]
) -> None:
    """Print the nearest genes of well-known ones."""
    named = {
        name: neighbours(arrays[0], met, symbols)
        for name, arrays in vectors.items()
        if name != "random"
    }
    table = pd.DataFrame(
        {name: {g: ", ".join(n[:5]) for g, n in x.items()} for name, x in named.items()}
    )
    print("\n| gene | " + " | ".join(table.columns) + " |\n|" + "---|" * (len(table.columns) + 1))
    for gene, row in table.iterrows():
        print(f"| {gene} | " + " | ".join(row) + " |")


def print_measures(measures: list[dict[str, Any]]) -> None:
    """Print each method's AUC, interval and ratio, and what ours is ahead by."""
    print("\n| measure | n | vectors | AUC | ratio | ours minus these |\n|---|---|---|---|---|---|")
    for measure in measures:
        for method, found in measure.get("methods", {}).items():
            area, ahead = found["auc"], measure["differences"].get(method)
            ratio = f"{found['ratio']:.2f}" if found.get("ratio") else "-"
            gap = (
                f"{ahead['mean']:+.3f} ({ahead['low']:+.3f} to {ahead['high']:+.3f})"
                if ahead
                else ""
            )
            print(
                f"| {measure['name']} | {measure['n']:,} | {method} | {area['mean']:.3f} "
                f"({area['low']:.3f} to {area['high']:.3f}) | {ratio} | {gap} |"
            )


if __name__ == "__main__":
    main()
