"""Files of Cell Ranger, read here and by `scbert annotate`."""

import gzip
import logging

import h5py
import numpy as np
import pytest
from scipy import sparse
from scipy.io import mmwrite

from scbert.cells.read import gene_names, read_cells
from scbert.files import sha256_of
from tests.samples import select_matrix

IDS = ["ENSG00000167286", "ENSG00000090382", "CD3"]
SYMBOLS = ["CD3D", "NA", "CD3_TotalSeqB"]  # NA stands for a symbol that pandas would lose
KINDS = ["Gene Expression", "Gene Expression", "Antibody Capture"]
BARCODES = ["AAAC-1", "CCCG-1"]
COUNTS = np.array([[1, 0], [0, 2], [70, 80]])  # features x cells


def write_folder(folder, features="features.tsv", zipped=True, counts=COUNTS, columns=3):
    folder.mkdir()
    mmwrite(folder / "matrix.mtx", sparse.csc_matrix(counts), field="integer")
    lines = zip(IDS, SYMBOLS, KINDS, strict=True)
    (folder / features).write_text("".join("\t".join(line[:columns]) + "\n" for line in lines))
    (folder / "barcodes.tsv").write_text("".join(f"{barcode}\n" for barcode in BARCODES))
    for path in list(folder.iterdir()) if zipped else []:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
    return folder


def write_h5(path, version=3, counts=COUNTS):
    csc = sparse.csc_matrix(counts)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        group["data"], group["indices"], group["indptr"] = csc.data, csc.indices, csc.indptr
        group["shape"], group["barcodes"] = csc.shape, np.array(BARCODES, dtype="S")
        if version == 3:
            features = group.create_group("features")
            columns = {"id": IDS, "name": SYMBOLS, "feature_type": KINDS, "genome": ["GRCh38"] * 3}
            for name, values in columns.items():
                features[name] = np.array(values, dtype="S")
        else:
            group["genes"], group["gene_names"] = np.array(IDS, "S"), np.array(SYMBOLS, "S")
    return path


def check(adata, n_genes=2):
    assert adata.X.toarray().tolist() == COUNTS.T[:, :n_genes].tolist()
    assert adata.X.dtype == np.float32
    assert adata.obs_names.tolist() == BARCODES
    assert adata.var_names.tolist() == IDS[:n_genes]
    names = gene_names(adata.var)
    assert names.symbol.tolist() == SYMBOLS[:n_genes]
    assert names.gene_id.tolist()[:2] == IDS[:2]
    assert select_matrix(adata, "auto", "q")[2] == "X"


@pytest.mark.parametrize("zipped", [True, False])
def test_read_cells_of_a_10x_folder_keeps_genes_and_says_so(tmp_path, zipped, caplog):
    caplog.set_level(logging.INFO, "scbert")
    check(read_cells(write_folder(tmp_path / "10x", zipped=zipped)))
    assert "2 features are genes; left out are 1 of Antibody Capture" in caplog.text


@pytest.mark.parametrize("zipped", [True, False])
def test_read_cells_of_a_10x_folder_of_version_2(tmp_path, zipped):
    """Without types, everything is a gene."""
    check(read_cells(write_folder(tmp_path / "10x", "genes.tsv", zipped, columns=2)), n_genes=3)


@pytest.mark.parametrize("version", [2, 3])
def test_read_cells_of_a_10x_h5_file(tmp_path, version):
    check(read_cells(write_h5(tmp_path / "a.h5", version)), n_genes=2 if version == 3 else 3)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("matrix.mtx.gz", "has no matrix.mtx .nor .gz."),
        ("barcodes.tsv.gz", "has no barcodes.tsv"),
        ("features.tsv.gz", "has no features.tsv or genes.tsv"),
    ],
)
def test_a_folder_that_is_not_complete_is_refused(tmp_path, gone, message):
    folder = write_folder(tmp_path / "10x")
    (folder / gone).unlink()
    with pytest.raises(ValueError, match=message):
        read_cells(folder)


def test_a_matrix_that_declares_another_size_is_refused_before_it_is_read(tmp_path):
    """10^9 cells would take 8 GB for their boundaries alone."""
    folder = write_folder(tmp_path / "10x", zipped=False)
    text = (folder / "matrix.mtx").read_text().replace("3 2 4", "3 1000000000 4")
    (folder / "matrix.mtx").write_text(text)
    with pytest.raises(ValueError, match="declares 3 x 1000000000, but there are 3 features and 2"):
        read_cells(folder)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("end", ["", "\n\n", " ", "\t", "x", " 7"])
def test_a_last_line_that_does_not_end_is_read(tmp_path, zipped, end):
    """scipy's mmread dies of such a line (a segmentation fault) if anything follows its number."""
    folder = write_folder(tmp_path / "10x", zipped=zipped)
    path = folder / ("matrix.mtx" + ".gz" * zipped)
    text = (gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()).rstrip()
    text += end.encode()
    path.write_bytes(gzip.compress(text, mtime=0) if zipped else text)
    check(read_cells(folder))


def test_files_without_genes_and_of_other_kinds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.cells.test_tenx.KINDS", ["Antibody Capture"] * 3)
    with pytest.raises(ValueError, match="no features of type 'Gene Expression'"):
        read_cells(write_folder(tmp_path / "10x"))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = [1, 2]
    with pytest.raises(ValueError, match=r"b.h5 cannot be read as an .h5 file of Cell Ranger"):
        read_cells(tmp_path / "b.h5")


def test_sha256_of_a_folder_changes_with_names_and_contents(tmp_path):
    first, second = (write_folder(tmp_path / name) for name in ("a", "b"))
    assert sha256_of(first) == sha256_of(second)
    (second / "barcodes.tsv.gz").rename(second / "c.gz")
    assert sha256_of(first) != sha256_of(second)
