"""Variants: the same counts in other formats, compressions, places and types of numbers."""

import gzip
import re
import shlex
import subprocess
import warnings
from functools import partial

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.io import mmwrite

from tests.cells.test_count_table import run_advice
from tests.cells.test_number_types import compress, write_as
from tests.cells.test_stores import cellbender, write_mudata
from tests.cells.test_tenx_h5 import write_10x
from tests.inputs.variant import Variant, changed

FORMAT, PLACE, NUMBERS = "format", "where the counts are", "types of numbers"


def with_ids(cells):
    cells.var["gene_ids"] = cells.var_names
    return cells


def h5ad(cells, folder, name="q.h5ad", **how):
    cells.write_h5ad(folder / name, **how)
    return folder / name


def zarr(cells, folder, version=2):
    with ad.settings.override(zarr_write_format=version):
        cells.write_zarr(folder / "q.zarr")
    return folder / "q.zarr"


def mudata(cells, folder, names=("rna",), suffix=".h5mu"):
    write_mudata(folder / f"q{suffix}", dict.fromkeys(names, cells))
    return folder / f"q{suffix}"


def tenx(cells, folder, version=3, others=0):
    return write_10x(folder / "q.h5", with_ids(cells), version, others)


def mtx(cells, folder, features="features.tsv", columns=3, zipped=True):
    """A folder of Cell Ranger; an antibody is its last feature if there are types."""
    into, names = folder / "q", list(cells.var_names)
    into.mkdir()
    lines = [(name, name, "Gene Expression") for name in names]
    counts = cells.X
    if columns == 3:
        lines.append(("CD3", "CD3", "Antibody Capture"))
        counts = sparse.hstack([counts, np.full((cells.n_obs, 1), 500.0)])
    mmwrite(into / "matrix.mtx", counts.T.tocsc(), field="integer")
    text = "".join("\t".join(line[:columns]) + "\n" for line in lines)
    (into / features).write_text(text)
    (into / "barcodes.tsv").write_text("".join(f"{name}\n" for name in cells.obs_names))
    for path in list(into.iterdir()) if zipped else []:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()
    return into


def table(cells, folder, name="q.csv", transposed=False, **how):
    frame = cells.to_df().astype(int)
    frame = frame.T if transposed else frame
    frame.to_csv(folder / name, sep="\t" if name.endswith((".tsv", ".txt")) else ",", **how)
    return folder / name


def as_r_writes(cells, folder):
    path = table(cells, folder)
    path.write_text(path.read_text().removeprefix(","))
    return path


def typed(cells, folder):
    frame = cells.to_df().astype(int).assign(cell_type="B")
    frame.to_csv(folder / "q.csv")
    return folder / "q.csv"


def renamed(write, name):
    """Write a file under another name than its format's."""

    def make(cells, folder):
        return write(cells, folder).rename(folder / name)

    return make


def packed(write, name):
    def make(cells, folder):
        path = write(cells, folder)
        (folder / name).write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()
        return folder / name

    return make


def bytes_of(name, content):
    def make(_, folder):
        (folder / name).write_bytes(content)
        return folder / name

    return make


def cut(cells, folder):
    path = h5ad(cells, folder)
    path.write_bytes(path.read_bytes()[:20_000])
    return path


def packed_by_zstandard(cells, folder):
    compress(h5ad(cells, folder), "X/data")
    return folder / "q.h5ad"


def empty_folder(_, folder):
    (folder / "q").mkdir()
    return folder / "q"


def shell(result):
    """Follow the advice of an error that is a command of the shell, which makes a file."""

    def follow(path, error):
        command = shlex.split(re.search(r"Do: (.*)$", error)[1])
        subprocess.run(command, check=True, timeout=60, cwd=path.parent)
        return path.parent / result

    return follow


def python(result):
    """As `shell`, where the command is one of Python."""

    def follow(path, error):
        here = error.replace("'q", f"'{path.parent}/q")  # the test took the folder away
        run_advice(here, "Do: ")
        return path.parent / result

    return follow


FORMATS = [
    Variant(FORMAT, "h5ad", h5ad),
    Variant(FORMAT, "h5ad, gzip", partial(h5ad, compression="gzip")),
    Variant(FORMAT, "h5ad, lzf", partial(h5ad, compression="lzf")),
    Variant(FORMAT, "h5ad, Zstandard, no hdf5plugin", packed_by_zstandard, refused="hdf5plugin"),
    Variant(FORMAT, "h5ad under the name .h5", partial(h5ad, name="q.h5")),
    Variant(FORMAT, "h5ad, cut off", cut, refused="complete"),
    Variant(FORMAT, "h5ad, empty file", bytes_of("q.h5ad", b""), refused="complete"),
    Variant(
        FORMAT, "h5ad.gz", packed(h5ad, "q.h5ad.gz"), refused="Do: gunzip", fix=shell("q.h5ad")
    ),
    Variant(FORMAT, "zarr, version 2", zarr),
    Variant(FORMAT, "zarr, version 3", partial(zarr, version=3)),
    Variant(FORMAT, "h5mu, rna alone", mudata),
    Variant(FORMAT, "h5mu, rna and prot", partial(mudata, names=("rna", "prot"))),
    Variant(
        FORMAT, "h5mu, gex and prot", partial(mudata, names=("gex", "prot")), refused="gex, prot"
    ),
    Variant(FORMAT, "MuData as zarr", partial(mudata, suffix=".zarr")),
    Variant(FORMAT, "10x .h5, version 3", tenx),
    Variant(FORMAT, "10x .h5, version 2", partial(tenx, version=2)),
    Variant(FORMAT, "10x .h5 with antibodies", partial(tenx, others=3)),
    Variant(FORMAT, "CellBender .h5", lambda c, f: cellbender(f / "q.h5", with_ids(c), 3)),
    Variant(
        FORMAT, "CellBender .h5, version 2", lambda c, f: cellbender(f / "q.h5", with_ids(c), 2)
    ),
    Variant(FORMAT, "mtx folder, gz, with an antibody", mtx),
    Variant(
        FORMAT,
        "mtx folder, plain, genes.tsv",
        partial(mtx, features="genes.tsv", columns=2, zipped=False),
    ),
    Variant(FORMAT, "mtx folder as R writes it", partial(mtx, columns=1, zipped=False)),
    Variant(FORMAT, "folder without mtx", empty_folder, refused="matrix.mtx"),
    Variant(FORMAT, "csv", table),
    Variant(FORMAT, "csv, no name over the cells (R)", as_r_writes),
    Variant(FORMAT, "csv, genes x cells", partial(table, transposed=True)),
    Variant(
        FORMAT,
        "csv, no ids",
        partial(table, index=False),
        refused="no ids",
        fix=python("q_ids.csv"),
    ),
    Variant(FORMAT, "csv with a column of types", typed, refused="'cell_type' holds text"),
    Variant(FORMAT, "csv.gz", packed(table, "q.csv.gz"), refused="Do: gunzip", fix=shell("q.csv")),
    Variant(FORMAT, "csv under the name .h5ad", renamed(table, "q.h5ad"), refused="complete"),
    Variant(FORMAT, "tsv", partial(table, name="q.tsv")),
    Variant(FORMAT, "tsv, genes x cells", partial(table, name="q.tsv", transposed=True)),
    Variant(
        FORMAT, "txt, tabs", partial(table, name="q.txt"), refused="Do: cp", fix=shell("q.tsv")
    ),
    Variant(FORMAT, "loom", bytes_of("q.loom", b"\x89HDF"), refused="read_loom"),
    Variant(FORMAT, "rds", bytes_of("q.rds", b"RDX3"), refused="Rscript"),
    Variant(FORMAT, "h5seurat", bytes_of("q.h5seurat", b"\x89HDF"), refused="SeuratDisk"),
]


def scaled(counts):
    values = counts.toarray()
    return ((values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)).clip(-10, 10)


def logged(counts):
    sums = np.asarray(counts.sum(axis=1)).ravel()
    other = sparse.diags_array(1e4 / sums) @ counts
    return sparse.csr_matrix(np.log1p(other)).astype(np.float32)


def highly_variable(cells, n=2000):
    """The genes whose logged expression varies most, as a mask."""
    values = logged(cells.X).toarray()
    return values.std(axis=0) >= np.sort(values.std(axis=0))[-n]


def layered(layer, x=scaled):
    def change(cells):
        cells.layers[layer] = cells.X.copy()
        cells.X = x(cells.X)

    return change


def in_raw(x, of=lambda counts: counts):
    """Raw has all genes; X those that vary."""

    def change(cells):
        whole = cells.copy()
        whole.X = of(cells.X)
        cells.X = x(cells.X)
        cells.raw = whole
        return cells[:, highly_variable(whole)].copy()

    return change


def hvg_counts_and_raw(cells):
    """As scvi-tools' tutorial has it: counts of 2,000 genes, all genes logged in raw."""
    whole, counts = cells.copy(), cells.X.copy()
    whole.X = logged(counts)
    chosen = highly_variable(cells)
    cells.raw = whole
    other = cells[:, chosen].copy()
    other.layers["counts"] = other.X.copy()
    other.X = logged(counts)[:, chosen]
    return other


def layer_is_scaled(cells):
    cells.raw = cells.copy()
    cells.layers["counts"] = scaled(cells.X)


def numbered_raw(cells):
    whole = cells.copy()
    whole.var = pd.DataFrame(index=[str(n) for n in range(whole.n_vars)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cells.raw = whole


def no_x(cells):
    return ad.AnnData(None, cells.obs, cells.var, layers={"counts": cells.X})


PLACES = [
    changed(PLACE, "layers/counts, X scaled", layered("counts")),
    changed(PLACE, "layers/counts, X logged", layered("counts", logged)),
    changed(PLACE, "layers/counts, no X", no_x),
    changed(
        PLACE,
        "layers/raw_counts, X scaled",
        layered("raw_counts"),
        refused="negative",
        fix={"matrix": "layers/raw_counts"},
    ),
    changed(PLACE, "raw.X, X scaled HVG", in_raw(scaled)),
    changed(PLACE, "raw.X logged, X scaled HVG", in_raw(scaled, logged)),
    changed(PLACE, "counts of 2,000 HVG, raw.X of all genes", hvg_counts_and_raw),
    changed(PLACE, "the same, --matrix raw.X", hvg_counts_and_raw, options={"matrix": "raw.X"}),
    changed(
        PLACE,
        "layers/counts is scaled",
        layer_is_scaled,
        refused="negative",
        fix={"matrix": "raw.X"},
    ),
    changed(
        PLACE,
        "raw.X with numbered genes (SeuratDisk)",
        numbered_raw,
        refused="genes",
        fix={"matrix": "X"},
    ),
    changed(
        PLACE,
        "a matrix that is not there",
        lambda c: c,
        options={"matrix": "layers/x"},
        refused="it has X",
        fix={"matrix": "X"},
    ),
]


def stored_as(form):
    def change(cells):
        cells.X = cells.X.toarray() if form == "dense" else cells.X.asformat(form)

    return change


def zeros_stored(cells):
    counts = cells.X.tolil()
    counts[:, :5] = 0
    other = sparse.csr_matrix(cells.X + sparse.csr_matrix(np.full(cells.shape, 1.0)))
    other.data -= 1
    cells.X = other


def twice_stored(cells):
    counts = cells.X
    half = np.floor(counts.data / 2)
    data = np.column_stack([half, counts.data - half]).ravel()
    cells.X = sparse.csr_matrix(
        (data, np.repeat(counts.indices, 2), counts.indptr * 2), counts.shape
    )


def unsorted(cells):
    counts = cells.X
    for start, stop in zip(counts.indptr[:-1], counts.indptr[1:], strict=True):
        counts.indices[start:stop] = counts.indices[start:stop][::-1].copy()
        counts.data[start:stop] = counts.data[start:stop][::-1].copy()
    counts.has_sorted_indices = False


def of_type(kind, form):
    def write(cells, folder):
        return write_as(folder / "q.h5ad", cells, kind, form)

    return write


def wide_indices(cells, folder):
    path = h5ad(cells, folder)
    with h5py.File(path, "r+") as file:
        for name in ("X/indices", "X/indptr"):
            values = file[name][()].astype("i8")
            del file[name]
            file[name] = values
    return path


KINDS = {  # scipy has no sparse matrices of half floats and of the other byte order
    "csr": ["u2", "u4", "i8", "u8", "f8"],
    "csc": ["i2", "i4", "f8"],
    "dense": ["f2", "u2", "i8", ">f4", ">f8", ">i2"],
}
TYPES = [
    *(changed(NUMBERS, form, stored_as(form)) for form in ("csc", "dense")),
    Variant(
        NUMBERS, "dense, gzip", lambda c, f: h5ad(stored_as("dense")(c) or c, f, compression="gzip")
    ),
    Variant(NUMBERS, "zarr, csc", lambda c, f: zarr(stored_as("csc")(c) or c, f)),
    Variant(NUMBERS, "zarr, dense", lambda c, f: zarr(stored_as("dense")(c) or c, f)),
    changed(NUMBERS, "stored zeros", zeros_stored),
    changed(NUMBERS, "entries stored twice", twice_stored),
    changed(NUMBERS, "indices out of order", unsorted),
    Variant(NUMBERS, "indices of 64 bits", wide_indices),
    *(
        Variant(NUMBERS, f"{form} of {np.dtype(kind).name}, {kind}", of_type(kind, form))
        for form, kinds in KINDS.items()
        for kind in kinds
    ),
    Variant(NUMBERS, "csr of booleans", of_type("?", "csr")),
]
VARIANTS = [*FORMATS, *PLACES, *TYPES]
