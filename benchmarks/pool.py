"""Write the studies of a pool of cells as samples of a corpus, for a pretraining run on real cells.

Run: python benchmarks/pool.py POOL.h5ad --drop STUDY --out FOLDER, then in FOLDER
snakemake --snakefile REPOSITORY/Snakefile --configfile REPOSITORY/benchmarks/pool.yaml pretrain.
`make bench-pretraining POOL=POOL.h5ad` does both.
"""

import argparse
from pathlib import Path

import anndata

STUDY = "batch"  # column of obs
# The workflow wants a dataset; this one's cells stay out of the corpus.
DATASET = {
    "dataset": "pbmc68k_reduced",
    "file": "package:scanpy/datasets/10x_pbmc68k_reduced.h5ad",
    "matrix": "raw.X",
    "scale": "log1p",
    "label_key": "bulk_labels",
    "batch_key": "",
    "library_size_key": "n_counts",
    "in_corpus": "no",
    "ontology": "",
}


def write_studies(pool: Path, dropped: list[str], out: Path) -> dict[str, int]:
    """Write a file for each study and the two tables; return the number of cells by study."""
    cells = anndata.read_h5ad(pool)
    unknown = sorted(set(dropped) - set(cells.obs[STUDY]))
    if unknown:
        raise SystemExit(f"{pool} has no {STUDY} '{unknown[0]}' that could be dropped")
    (out / "cells").mkdir(parents=True, exist_ok=True)
    lines, sizes = ["sample\tfile\tmatrix\tscale\tsha256"], {}
    for study in sorted(set(cells.obs[STUDY]) - set(dropped)):
        own = cells[cells.obs[STUDY] == study]
        own.write_h5ad(out / "cells" / f"{study}.h5ad", compression="gzip")
        lines.append(f"{study}\tcells/{study}.h5ad\tX\tcounts\t")
        sizes[study] = own.n_obs
    (out / "corpus.tsv").write_text("\n".join(lines) + "\n")
    (out / "datasets.tsv").write_text(
        "\t".join(DATASET) + "\n" + "\t".join(DATASET.values()) + "\n"
    )
    return sizes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--drop", nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    print(write_studies(options.pool, options.drop, options.out))
