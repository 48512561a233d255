"""Tables of counts the other way round or without ids, and formats that are not read."""

import logging
import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmwrite

from scbert.cells.read import read_cells

GENES = ["CD3D", "LYZ", "MS4A1", "NKG7", "ENSG00000166710.15", "GAPDH"]  # one with its version
COUNTS = np.arange(24).reshape(4, 6) % 5
CELLS = ["AAAC-1", "CCCG-1", "GGGT-1", "TTTA-1"]


def table():
    return pd.DataFrame(COUNTS, index=CELLS, columns=GENES)


def check(found, cells=CELLS):
    assert found.X.toarray().tolist() == COUNTS.tolist()
    assert found.var_names.tolist() == GENES
    assert found.obs_names.tolist() == list(cells)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_table_is_read_either_way_round(tmp_path, caplog, suffix, transposed):
    caplog.set_level(logging.INFO, "scbert")
    path, given = tmp_path / f"q{suffix}", table().T if transposed else table()
    given.to_csv(path, sep="\t" if suffix == ".tsv" else ",")
    check(read_cells(path))
    assert ("6 rows and no column have names of human genes: read transposed" in caplog.text) == (
        transposed
    )


def test_a_transposed_table_as_r_writes_it(tmp_path):
    text = table().T.to_csv().lstrip(",")
    (tmp_path / "q.csv").write_text(text)
    check(read_cells(tmp_path / "q.csv"))


def run_advice(message, separator):
    """Run the command that a message names, with this Python."""
    command = re.search(rf"{separator}(python -c .*)$", message, re.DOTALL)[1]
    subprocess.run([sys.executable, *shlex.split(command)[1:]], check=True, timeout=60)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_without_ids_is_refused_with_a_command_that_works(tmp_path, suffix):
    path = tmp_path / f"a b{suffix}"
    table().to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=False)
    with pytest.raises(ValueError, match=r"'CD3D', holds numbers \(0, 1, 2\).*no ids") as refused:
        read_cells(path)
    run_advice(str(refused.value), "Do: ")
    check(read_cells(tmp_path / f"a b_ids{suffix}"), [f"cell{n}" for n in range(4)])


def test_numbers_that_a_program_gave_are_ids(tmp_path):
    table().reset_index(drop=True).to_csv(tmp_path / "q.csv")
    check(read_cells(tmp_path / "q.csv"), list("0123"))


def test_repeated_ids_of_a_table_are_not_advised_to_be_mended_in_an_anndata(tmp_path):
    table().set_axis(["a", "a", "b", "c"], axis="index").to_csv(tmp_path / "q.csv")
    with pytest.raises(ValueError, match=r"1 cell ids .*\(a\).*give each cell another name") as no:
        read_cells(tmp_path / "q.csv")
    assert "adata" not in str(no.value)


def test_a_column_of_text_is_named(tmp_path):
    table().assign(cell_type="B cell").to_csv(tmp_path / "q.csv")
    with pytest.raises(ValueError, match="column 'cell_type' holds text, such as 'B cell'"):
        read_cells(tmp_path / "q.csv")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("q.rds", r"holds objects of R.*Rscript -e .*readRDS.*writeMM.*give the folder"),
        ("q.RData", "holds objects of R"),
        ("q.h5seurat", "is a Seurat object.*SeuratDisk::Convert"),
        ("q.h5ad.gz", r"is compressed.*Do: gunzip --keep .*q.h5ad.gz$"),
        ("q.csv.bz2", "is compressed.*Do: bunzip2 --keep"),
        ("q.tar.gz", "is compressed.*Do: tar xf"),
        ("q.zarr.zip", r"is an archive.*unzip .*q.zarr.zip -d .*q.zarr$"),
        ("matrix.mtx.gz", "Give its folder, .* with barcodes.tsv"),
        ("q.loom", r"is a loom file.*pip install loompy.*read_loom\(.*write_h5ad"),
        ("q.xlsx", "ends in '.xlsx', but cells are read from .h5ad"),
    ],
)
def test_other_formats_are_named_with_what_to_do(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read_cells(tmp_path / name)


@pytest.mark.parametrize(("separator", "found"), [("\t", ".tsv"), (",", ".csv"), (" ", "")])
def test_the_advice_for_text_works(tmp_path, separator, found):
    table().rename_axis("cell").to_csv(tmp_path / "q.txt", sep=separator)
    with pytest.raises(ValueError, match="may be a table separated by anything") as refused:
        read_cells(tmp_path / "q.txt")
    if found:
        assert str(refused.value).endswith(f"Do: cp {tmp_path / 'q.txt'} {tmp_path / 'q'}{found}")
        (tmp_path / "q.txt").rename(tmp_path / f"q{found}")
    else:
        run_advice(str(refused.value), "Do: ")
    check(read_cells(tmp_path / f"q{found or '.csv'}"))


def test_the_folder_that_the_advice_for_r_makes_is_read(tmp_path):
    """As Matrix::writeMM and writeLines write it: a column of names, no types."""
    mmwrite(tmp_path / "matrix.mtx", sparse.csc_matrix(COUNTS.T), field="integer")
    (tmp_path / "features.tsv").write_text("".join(f"{name}\n" for name in GENES))
    (tmp_path / "barcodes.tsv").write_text("".join(f"{name}\n" for name in CELLS))
    check(read_cells(tmp_path))
