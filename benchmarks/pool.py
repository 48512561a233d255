"""Write cells of several studies as the samples of a corpus, for a pretraining run on real cells.

Run: python benchmarks/pool.py POOL.h5ad --files FOLDER --drop STUDY --out RUN, then in RUN
snakemake --snakefile REPOSITORY/Snakefile --configfile REPOSITORY/config/encoder.yaml pretrain.
POOL.h5ad has one sample for each study that obs.batch names, FOLDER one for each file. Without
--files: benchmarks/pool.yaml, and `make bench-pretraining POOL=POOL.h5ad` does both.
"""

import argparse
from itertools import groupby
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


def write_studies(pool: Path, dropped: set[str], out: Path) -> dict[str, Path]:
    """Write a file for each study of the pool; return their places below `out`, by sample."""
    cells = anndata.read_h5ad(pool)
    (out / "cells").mkdir(parents=True, exist_ok=True)
    files = {}
    for study in sorted(set(cells.obs[STUDY]) - dropped):
        files[study] = Path("cells", f"{study}.h5ad")
        own = cells[cells.obs[STUDY] == study]
        own.write_h5ad(out / files[study], compression="gzip")
    return files


def name_files(folder: Path, dropped: set[str]) -> dict[str, Path]:
    """Return the files of a folder by sample, those of one study with a number in front.

    Files whose names begin with the same word are of one study, as geact_fetal_esophagus.h5ad and
    geact_fetal_stomach.h5ad. Held-out studies are whole ones, and pretraining knows samples of one
    study by an SRA accession in front of their names (training/corpus): SRA1, SRA2, ...
    are none that exists, for accessions have six digits or more. One file of several studies would
    need one list of genes, and the measured ones of each be lost. What is left out is numbered too,
    so that a study has the same name in each corpus.
    """
    studies = groupby(sorted(folder.glob("*.h5ad")), lambda path: path.stem.split("_")[0])
    files: dict[str, Path] = {}
    number = 0
    for _, paths in studies:
        of_study = list(paths)
        number += len(of_study) > 1
        front = f"SRA{number}_" if len(of_study) > 1 else ""
        kept = [path for path in of_study if path.stem not in dropped]
        files |= {f"{front}{path.stem}": path.resolve() for path in kept}
    return files


def write_tables(files: dict[str, Path], out: Path) -> None:
    """Write the table of the corpus and that of the datasets."""
    lines = [f"{sample}\t{file}\tX\tcounts\t" for sample, file in files.items()]
    header = "sample\tfile\tmatrix\tscale\tsha256"
    (out / "corpus.tsv").write_text("\n".join([header, *lines]) + "\n")
    (out / "datasets.tsv").write_text(
        "\t".join(DATASET) + "\n" + "\t".join(DATASET.values()) + "\n"
    )


def require_known(dropped: set[str], pool: Path, folder: Path | None) -> None:
    """Stop if what shall be left out is neither a study of the pool nor a file of the folder."""
    known = set(anndata.read_h5ad(pool, backed="r").obs[STUDY])
    known |= {path.stem for path in folder.glob("*.h5ad")} if folder else set()
    unknown = sorted(dropped - known)
    if unknown:
        raise SystemExit(
            f"'{unknown[0]}' shall be left out (--drop), but neither {STUDY} of {pool} nor a file "
            f"of {folder or 'a folder (--files)'} has that name. Give one of: "
            f"{', '.join(sorted(known))}."
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--files", type=Path, metavar="FOLDER")
    parser.add_argument("--drop", nargs="*", default=[], metavar="STUDY_OR_FILE")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    left_out = set(options.drop)
    require_known(left_out, options.pool, options.files)
    samples = write_studies(options.pool, left_out, options.out)
    samples |= name_files(options.files, left_out) if options.files else {}
    write_tables(samples, options.out)
    print("\n".join(samples))
