"""Formats that are not read: what they are, and a command that makes one of them that is."""

from pathlib import Path

READ = (
    "cells are read from .h5ad, .h5mu, .h5 (10x), .csv, .tsv, a folder of zarr, or a folder with "
    "matrix.mtx (10x)"
)
R_FILES = (".rds", ".rda", ".rdata", ".qs")

WHAT = {
    ".loom": "is a loom file",
    ".h5seurat": "is a Seurat object",
    ".mtx": "is a matrix without names of cells and genes",
    ".txt": "may be a table separated by anything",
    **dict.fromkeys(R_FILES, "holds objects of R"),
    **dict.fromkeys((".gz", ".bz2", ".xz"), "is compressed"),
    **dict.fromkeys((".zip", ".tar", ".tgz"), "is an archive"),
}
OF_A_FOLDER = "Give its folder, {folder}, with barcodes.tsv and features.tsv beside it."
HOW = {
    ".loom": 'Do: pip install loompy, then python -c "import anndata; '
    "anndata.io.read_loom('{path}').write_h5ad('{without}.h5ad')\"",
    ".h5seurat": "Do, in R: SeuratDisk::Convert('{path}', dest = 'h5ad')",
    ".mtx.gz": OF_A_FOLDER,
    ".mtx": OF_A_FOLDER,
    ".tar.gz": "Do: tar xf {path}, and give what was in it.",
    ".tgz": "Do: tar xf {path}, and give what was in it.",
    ".tar": "Do: tar xf {path}, and give what was in it.",
    ".zip": "Do: unzip {path} -d {without}",
    ".gz": "Do: gunzip --keep {path}",
    ".bz2": "Do: bunzip2 --keep {path}",
    ".xz": "Do: unxz --keep {path}",
}


def other_format(path: Path) -> ValueError:
    """Return the error of a file that is none of those that are read."""
    return ValueError(f"{path} {_what(path)}, but {READ}. {_how(path)}")


def _what(path: Path) -> str:
    suffix = path.suffix.lower()
    return WHAT.get(suffix, f"ends in '{path.suffix}'")


def _how(path: Path) -> str:
    name = path.name.lower()
    special = {".txt": _how_from_text, **dict.fromkeys(R_FILES, _how_from_r)}
    found = special.get(path.suffix.lower())
    if found:
        return found(path)
    for ending, how in HOW.items():  # the longer endings go first
        if name.endswith(ending):
            return how.format(path=path, without=path.with_suffix(""), folder=path.parent)
    return "Convert it."


def _how_from_r(path: Path) -> str:
    folder = path.with_suffix("")
    return (
        "Of a Seurat object (5 or later), do: Rscript -e 'm <- SeuratObject::LayerData("
        f'readRDS("{path}"), assay = "RNA", layer = "counts"); dir.create("{folder}"); '
        f'Matrix::writeMM(m, "{folder}/matrix.mtx"); '
        f'writeLines(rownames(m), "{folder}/features.tsv"); '
        f'writeLines(colnames(m), "{folder}/barcodes.tsv")\', and give the folder {folder}. Of a '
        "SingleCellExperiment, m is SingleCellExperiment::counts(readRDS(...))."
    )


def _how_from_text(path: Path) -> str:
    with path.open("rb") as handle:
        line = handle.readline(100_000)
    for separator, suffix in ((b"\t", ".tsv"), (b",", ".csv")):
        if separator in line:
            to = path.with_suffix(suffix)
            return f"Its columns are separated as in {suffix}. Do: cp {path} {to}"
    return (
        f"Do: python -c \"import pandas as pd; pd.read_csv('{path}', sep=r'\\s+', index_col=0)"
        f".to_csv('{path.with_suffix('.csv')}')\""
    )
