"""From PanglaoDB's files to tokens: cells per second and peak memory, by size of the corpus.

Each file is read, normalised and binned by the functions that the rules call, each in a process of
its own. Run: make bench-corpus, or python benchmarks/corpus.py --cells 1000000.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from anndata import read_h5ad
from corpus_samples import SIZES, sample_sizes, write_synthetic
from processes import NOTHING, Cost, measure

from scbert.config import Config, ReadSettings, load_config, settings_for
from scbert.files import read_json
from scbert.steps.bin_expression import bin_expression
from scbert.steps.normalize_counts import normalize_counts
from scbert.steps.read_counts import read_counts
from scbert.tables import write_table
from scbert.tokens.store import open_store

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("SCBERT_SHARED_DATA", ROOT.parent / "shared/data")) / "panglaodb/rdata"
N_GENES = 16_906
STEPS = ("read_counts", "normalize_counts", "bin_expression")


def main() -> None:
    """Print a table per corpus, one of the real files, and what a start of Python takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, SIZES[-1], 100_000])
    parser.add_argument("--folder", type=Path, help="where about 10 kB per cell fit")
    options = parser.parse_args()
    config = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run = _Run(Path(folder), config)
        print("\n| cells | samples | largest | step | s | cells/s | cells/s of CPU | peak MB |")
        print("|---|---|---|---|---|---|---|---|")
        for n_cells in options.cells:
            run.corpus(n_cells)
        run.real_files()
        versions = read_json(run.tokens / "meta.json")["versions"]
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, one used; {said}.")
    print(f"Start of Python with the imports of a step: {_start():.1f} s per step and file.")


class _Run:
    """One folder, one vocabulary, many corpora."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        self.config = config
        self.vocabulary = folder / "vocabulary.tsv"
        given = {
            "source": "synthetic",
            "matrix": "X",
            "scale": "counts",
            "dataset": None,
            "leave_out": True,
        }
        self.reading = settings_for(ReadSettings, config, sample="benchmark", **given)

    def corpus(self, n_cells: int) -> None:
        """Take a synthetic corpus to tokens and print a line per step."""
        sizes = sample_sizes(n_cells, np.random.default_rng(0))
        costs, expressions = dict.fromkeys(STEPS, NOTHING), []
        for number, size in enumerate(sizes):
            sample = self._link(size, number)
            expressions.append(self._expression(sample, costs, self.vocabulary))
            sample.unlink()
        costs["bin_expression"] = self._bin(expressions, self.vocabulary)
        meta = read_json(self.folder / "tokens/meta.json")
        total = costs["read_counts"] + costs["normalize_counts"] + costs["bin_expression"]
        for step, cost in {**costs, "all three": total}.items():
            _print(meta["cells"], len(sizes), max(sizes), step, cost)
        _print(meta["cells"], len(sizes), max(sizes), "open", measure(open_store, self.tokens))

    def real_files(self) -> None:
        """Take PanglaoDB's own files, cut to 50 cells, if they are there: fixed costs only."""
        files = sorted(REAL.glob("*.RData")) if REAL.is_dir() else []
        print(f"\nReal files: {len(files)}, of 50 cells each; seconds per file")
        for path in files:
            costs = dict.fromkeys(STEPS, NOTHING)
            try:
                expression = self._expression(path, costs, self.folder / f"{path.stem}.tsv")
                costs["bin_expression"] = self._bin([expression], self.folder / f"{path.stem}.tsv")
            except RuntimeError as error:  # such as: nearly empty cells
                print(f"{path.name}: {error}")
                continue
            print(path.name, *(f"{step} {cost.seconds:.2f} s" for step, cost in costs.items()))

    @property
    def tokens(self) -> Path:
        """The store that was written last."""
        return self.folder / "tokens"

    def _link(self, size: int, number: int) -> Path:
        """Give a sample of this size a name of its own: barcodes carry the name of the file."""
        pooled = self.folder / f"pool{size}.RData"
        if not pooled.is_file():
            measure(write_synthetic, pooled, size)
        linked = self.folder / f"SRA{number}_SRS{number}.sparse.RData"
        os.link(pooled, linked)
        return linked

    def _expression(self, cells: Path, costs: dict[str, Cost], vocabulary: Path) -> Path:
        """Read and normalise a file; its counts are deleted as soon as they are not needed."""
        counts, quality = self.folder / f"counts/{cells.stem}.h5ad", self.folder / "quality.json"
        expression = self.folder / f"expression/{cells.stem}.h5ad"
        costs["read_counts"] += measure(read_counts, cells, counts, quality, self.reading)
        if not vocabulary.is_file():
            measure(_write_vocabulary, counts, vocabulary)
        costs["normalize_counts"] += measure(
            *(normalize_counts, counts, vocabulary, expression),
            *(self.folder / "overlap.json", self.config.normalization),
        )
        counts.unlink()
        return expression

    def _bin(self, expressions: list[Path], vocabulary: Path) -> Cost:
        options = self.config.binning
        cost = measure(bin_expression, expressions, vocabulary, self.tokens, options)
        for path in expressions:
            path.unlink()
        return cost


def _write_vocabulary(counts: Path, vocabulary: Path) -> None:
    """Take 16,906 genes, as many as scBERT's, at random of those that the file names."""
    genes = read_h5ad(counts, backed="r").var[["symbol", "gene_id"]].drop_duplicates("symbol")
    chosen = genes.sample(min(N_GENES, len(genes)), random_state=0)
    write_table(vocabulary, chosen.sort_values("symbol"))


def _print(cells: int, samples: int, largest: int, step: str, cost: Cost) -> None:
    print(
        f"| {cells:,} | {samples} | {largest:,} | {step} | {cost.seconds:.1f} "
        f"| {cells / cost.seconds:,.0f} | {cells / cost.cpu_seconds:,.0f} | {cost.peak_mb:,.0f} |",
        flush=True,
    )


def _start() -> float:
    started = time.perf_counter()
    for module in ("scbert.steps.read_counts", "scbert.steps.normalize_counts"):
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True, cwd=ROOT)
    return (time.perf_counter() - started) / 2


if __name__ == "__main__":
    main()
