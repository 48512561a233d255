"""Files .h5 of Cell Ranger: what scanpy reads, a part at a time, and what is refused."""

import logging
import sys
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbert.cells import hdf5, matrix, query
from scbert.cells.hdf5 import list_in, read_names
from scbert.cells.how_to_read import HowToRead
from scbert.cells.matrix import Parts
from scbert.cells.read import read_cells, write_cells
from scbert.steps.annotate_file import annotate, annotate_file
from scbert.steps.embed_file import embed, embed_file
from scbert.steps.inspect_file import inspect_file
from scbert.training import answers as step
from tests.cells.test_query import everything

NUMBERS = {"data": np.int32, "indices": np.int64, "indptr": np.int64}  # as Cell Ranger has them


def write_10x(path, cells, version=3, others=3, text="S"):
    """Write cells as Cell Ranger does, with antibodies among the genes if the version has types."""
    genes, ids = cells.var_names.tolist(), cells.var.gene_ids.tolist()
    types, counts = ["Gene Expression"] * len(genes), cells.X.tocsc()
    for number in range(others if version == 3 else 0):
        place = 20 * number
        genes.insert(place, f"CD{number}")
        ids.insert(place, f"antibody{number}")
        types.insert(place, "Antibody Capture")
        own = sparse.csc_matrix(np.full((cells.n_obs, 1), 50 + number))
        counts = sparse.hstack([counts[:, :place], own, counts[:, place:]], format="csc")
    rows = counts.tocsr()
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "hg19")
        for name, kind in NUMBERS.items():
            values = getattr(rows, name).astype(kind)
            group.create_dataset(name, data=values, chunks=(32,), compression="gzip")
        group["shape"] = np.array([len(genes), cells.n_obs], dtype=np.int32)
        group["barcodes"] = np.array(cells.obs_names, dtype=text)
        if version == 3:
            table = group.create_group("features")
            columns = {"id": ids, "name": genes, "feature_type": types}
            columns["genome"] = ["GRCh38"] * len(genes)
        else:
            table, columns = group, {"genes": ids, "gene_names": genes}
        for name, values in columns.items():
            table[name] = np.array(values, dtype=text)
    return path


@pytest.fixture
def cells(toy):
    return toy.draw_cells(45, seed=5)


@pytest.fixture
def at_most_seven(monkeypatch):
    """Let a part be 7 of the 45 cells, and see that no more are read."""
    read = Parts.read

    def look(given, start, stop):
        assert stop - start <= 7
        return read(given, start, stop)

    monkeypatch.setattr(matrix, "CELLS_AT_ONCE", 7)
    monkeypatch.setattr(Parts, "read", look)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # scanpy imports what others deprecate
@pytest.mark.parametrize("version", [2, 3])
def test_read_10x_h5_is_what_scanpy_reads(cells, tmp_path, version):
    """2^24 + 1 is the first integer that float32 cannot hold."""
    import scanpy as sc  # noqa: PLC0415  takes seconds to import

    cells.X = cells.X.astype(np.float64)
    cells.X.data[3] = 2**24 + 1
    path = write_10x(tmp_path / "q.h5", cells, version)
    expected, found = sc.read_10x_h5(path), read_cells(path)
    assert (found.X != expected.X).nnz == 0
    assert found.X.dtype == expected.X.dtype == np.float32
    assert found.X.has_canonical_format
    assert found.obs_names.tolist() == expected.obs_names.tolist()
    assert found.var_names.tolist() == expected.var.gene_ids.tolist()
    assert found.var.gene_symbols.tolist() == expected.var_names.tolist()
    assert found.n_vars == 80


def test_read_10x_h5_needs_no_scanpy(cells, tmp_path, monkeypatch):
    """A plain pip install has none."""
    monkeypatch.setitem(sys.modules, "scanpy", None)
    assert read_cells(write_10x(tmp_path / "q.h5", cells)).shape == (45, 80)


def test_read_10x_h5_takes_text_of_any_length(cells, tmp_path, monkeypatch):
    """As R and Python write it; such names are read a few at a time."""
    monkeypatch.setattr(hdf5, "BYTES_AT_ONCE", 100_000)
    path = write_10x(tmp_path / "q.h5", cells, text=h5py.string_dtype())
    assert path.stat().st_size > 30_000
    assert read_cells(path).obs_names.tolist() == cells.obs_names.tolist()


@pytest.mark.parametrize("at_once", [1, 7, 45, 8192])
@pytest.mark.parametrize("version", [2, 3])
def test_annotate_file_of_10x_in_parts_writes_what_it_writes_in_memory(
    cells, toy_run, tmp_path, monkeypatch, version, at_once
):
    path = write_10x(tmp_path / "q.h5", cells, version)
    whole = annotate(read_cells(path), toy_run.model, name=str(path))
    write_cells(tmp_path / "memory.h5ad", whole)
    monkeypatch.setattr(matrix, "CELLS_AT_ONCE", at_once)
    annotate_file(path, toy_run.model, tmp_path / "parts.h5ad")
    expected, found = (everything(tmp_path / f"{name}.h5ad") for name in ("memory", "parts"))
    same = [key for key in expected if key.startswith(("X", "var", "layers", "obs/_index"))]
    assert len(same) > 10
    assert {key: found[key] for key in same} == {key: expected[key] for key in same}
    expected, found = (ad.read_h5ad(tmp_path / f"{name}.h5ad") for name in ("memory", "parts"))
    assert list(found.obs) == list(expected.obs)
    for column in expected.obs:
        if column in ("scbert_confidence", "scbert_novelty_score"):
            same = pytest.approx(expected.obs[column], rel=1e-5, abs=1e-5)
            assert found.obs[column].to_numpy() == same
        else:
            assert found.obs[column].tolist() == expected.obs[column].tolist()
    for key in ("X_scbert", "scbert_probabilities"):
        assert np.abs(np.asarray(found.obsm[key]) - np.asarray(expected.obsm[key])).max() < 1e-5
    assert str(found.uns["scbert"]) == str(expected.uns["scbert"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "memory.h5ad",
        "parts.h5ad",
        "q.h5",
    ]


@pytest.mark.usefixtures("at_most_seven")
def test_no_command_reads_more_than_a_part(cells, toy_run, tmp_path):
    path = write_10x(tmp_path / "q.h5", cells)
    before = path.read_bytes()
    annotate_file(path, toy_run.model, tmp_path / "a.h5ad")
    embed_file(path, toy_run.pretrained, tmp_path / "e.h5ad")
    found = inspect_file(path, toy_run.model)
    assert not found.refusal
    assert dict(found.rows)["matrix"] == "X, 80 genes"
    assert path.read_bytes() == before


def test_spike_ins_of_10x_are_left_out_as_those_of_h5ad(cells, toy_run, tmp_path):
    cells.var["gene_ids"] = [*cells.var.gene_ids[:-1], "ERCC-00002"]
    write_10x(tmp_path / "q.h5", cells)
    annotate_file(tmp_path / "q.h5", toy_run.model, tmp_path / "out.h5ad")
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    assert found.n_vars == cells.n_vars - 1
    assert found.uns["scbert"]["features_left_out"] == ""  # they are not in the result either
    adata = ad.AnnData(cells.X, obs=cells.obs, var=pd.DataFrame(index=cells.var.gene_ids))
    expected = annotate(adata, toy_run.model)
    assert expected.uns["scbert"]["features_left_out"] == "1 of type spike-in"
    assert (found.obsm["X_scbert"] == expected.obsm["X_scbert"]).all()


def test_embed_file_of_10x_is_embed(cells, toy_run, tmp_path, monkeypatch):
    path = write_10x(tmp_path / "q.h5", cells)
    expected = embed(read_cells(path), toy_run.model)
    monkeypatch.setattr(matrix, "CELLS_AT_ONCE", 7)
    embed_file(path, toy_run.model, tmp_path / "out.h5ad")
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    assert np.abs(found.obsm["X_scbert"] - expected.obsm["X_scbert"]).max() < 1e-5
    assert (found.X != expected.X).nnz == 0
    pd.testing.assert_frame_equal(found.var, expected.var)


def test_cells_with_antibodies_alone_stay(cells, toy_run, tmp_path, monkeypatch):
    """The first part has no value at all."""
    monkeypatch.setattr(matrix, "CELLS_AT_ONCE", 7)
    cells.X = sparse.csr_matrix(cells.X.toarray() * (np.arange(45) > 7)[:, None])
    annotate_file(write_10x(tmp_path / "q.h5", cells), toy_run.model, tmp_path / "out.h5ad")
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    assert (found.X != cells.X).nnz == 0


def replace(group, name, **how):
    del group[name]
    group.create_dataset(name, **how)


def put(name, place, value):
    """Return what changes one entry of a list."""

    def change(group):
        group[name][place] = value

    return change


def declare(name, kind):
    """Return what makes a list of 10^12 entries, of which none is stored."""

    def change(group):
        replace(group, name, shape=(10**12,), dtype=kind, chunks=(1000,))

    return change


def link(target):
    def change(group):
        del group["data"]
        group["data"] = target

    return change


def not_a_number(group):
    values = group["data"][:].astype(np.float32)
    values[-1] = np.nan
    replace(group, "data", data=values)


def long_name(group):
    names = group["barcodes"][:].astype("S3000")
    names[7] = b"A" * 3000
    replace(group, "barcodes", data=names, compression="gzip")


def a_group_for_data(group):
    del group["data"]
    group.create_group("data")


def external_storage(group):
    where = [(folder_of(group) / "secret", 0, 36)]
    replace(group, "data", shape=(9,), dtype=np.int32, external=where)


def virtual(group):
    layout = h5py.VirtualLayout((9,), np.int32)
    layout[:] = h5py.VirtualSource(folder_of(group) / "other.h5", "secret", shape=(9,))
    del group["data"]
    group.create_virtual_dataset("data", layout)


def folder_of(group):
    return Path(group.file.filename).parent


def two_genomes(group):
    group.file.move("matrix", "hg19")
    group.file.create_group("mm10")["barcodes"] = np.array(["A"], dtype="S")


def no_gene(group):
    kinds = np.array(["Custom"] * 83, dtype="S")
    replace(group["features"], "feature_type", data=kinds)


REFUSED = "q.h5 cannot be read as an .h5 file of Cell Ranger.*"
DAMAGE = {
    "nan in the last cell": (not_a_number, "X of .*q.h5 holds 1 values that are NaN"),
    "feature beyond the table": (put("indices", -1, 83), "X of .*q.h5 is a damaged matrix"),
    "negative feature": (put("indices", -1, -1), "X of .*q.h5 is a damaged matrix"),
    "indptr descends": (put("indptr", 5, 3), REFUSED + "ascend"),
    "short indptr": (
        lambda group: replace(group, "indptr", data=group["indptr"][:-1]),
        REFUSED + "46 numbers",
    ),
    "other shape": (
        put("shape", 0, 84),
        REFUSED + r"\[84, 45\], but there are 83 features and 45 barcodes",
    ),
    "barcodes repeat": (
        put("barcodes", 1, b"cell0"),
        r"1 cell ids that occur more than once \(cell0\)",
    ),
    "ids repeat": (
        put("features/id", 2, b"ENSG00000000001"),
        "1 gene names that occur more than once",
    ),
    "a long name": (long_name, REFUSED + "a name has 3000 bytes, but 1024 are the most"),
    "declared barcodes": (
        declare("barcodes", "S18"),
        REFUSED + "'barcodes' declares 18,000,000,000,000 bytes, but holds 0",
    ),
    "declared indptr": (declare("indptr", np.int64), REFUSED + "'indptr' declares"),
    "declared data": (declare("data", np.int32), REFUSED + "'data' declares"),
    "text for numbers": (
        lambda group: replace(group, "data", data=np.array([b"x"] * 9)),
        REFUSED + "'data' is not a list of numbers",
    ),
    "numbers for text": (
        lambda group: replace(group, "barcodes", data=np.arange(45)),
        REFUSED + "'barcodes' is not a list of names",
    ),
    "no features": (lambda group: group.pop("features"), REFUSED + "gene_names"),
    "a group for data": (a_group_for_data, REFUSED + "'data' is not a list"),
    "not UTF-8": (put("barcodes", 2, b"\xff"), REFUSED + "utf-8"),
    "link": (
        link(h5py.ExternalLink("other.h5", "secret")),
        REFUSED + "'matrix/data' of .* is a link into another file",
    ),
    "soft link to itself": (link(h5py.SoftLink("/matrix/data")), REFUSED),
    "external storage": (external_storage, REFUSED + "'matrix/data' of .* is a link into"),
    "virtual": (virtual, REFUSED + "'matrix/data' of .* is a link into another file"),
    "genomes": (two_genomes, REFUSED + r"no 'matrix', and 2 genomes \(hg19, mm10\)"),
    "no group": (lambda group: group.file.pop("matrix"), REFUSED + "none of what it holds"),
    "no gene": (no_gene, "q.h5 has no features of type 'Gene Expression'"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_refused_before_the_network_runs(
    cells, toy_run, tmp_path, monkeypatch, how
):
    (change, message), path = DAMAGE[how], write_10x(tmp_path / "q.h5", cells)
    (tmp_path / "secret").write_bytes(bytes(36))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.arange(9)
    with h5py.File(path, "r+") as file:
        change(file["matrix"])
    monkeypatch.setattr(step, "ask", lambda *_, **__: pytest.fail("the network ran"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=f"(?s){message}"):
        annotate_file(path, toy_run.model, tmp_path / "out.h5ad")
    assert sorted(tmp_path.iterdir()) == before
    assert inspect_file(path, toy_run.model).refusal


def test_a_file_that_is_cut_off_is_refused_and_nothing_stays(cells, toy_run, tmp_path):
    path = write_10x(tmp_path / "q.h5", cells)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=REFUSED):
        annotate_file(path, toy_run.model, tmp_path / "out.h5ad")
    assert [one.name for one in tmp_path.iterdir()] == ["q.h5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reading": HowToRead("layers/counts")}, "has no matrix 'layers/counts'; it has X"),
        ({"cluster_key": "leiden"}, r"has no column obs\['leiden'\]; it has none"),
    ],
)
def test_what_a_10x_file_does_not_have_is_said(cells, toy_run, tmp_path, changes, message):
    path = write_10x(tmp_path / "q.h5", cells)
    with pytest.raises(ValueError, match=message):
        annotate_file(path, toy_run.model, tmp_path / "out.h5ad", **changes)
    assert [one.name for one in tmp_path.iterdir()] == ["q.h5"]


def test_list_in_takes_what_compresses_well(tmp_path):
    """A million equal numbers become 1 / 1000 of their size: still not a declaration alone."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("same", data=np.ones(10**6, np.int32), chunks=True, compression="gzip")
        file.create_dataset("none", shape=(0,), dtype=np.int32)
        assert len(list_in(file, "same", "i")) == 10**6
        assert len(list_in(file, "none", "i")) == 0


def test_read_names_reads_no_more_than_it_may(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "BYTES_AT_ONCE", 20)
    names = [f"cell{number}" for number in range(25)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["fixed"], file["any"] = np.array(names, "S"), names
        for key in ("fixed", "any"):
            assert read_names(file[key]).tolist() == names


def test_a_large_file_that_must_be_whole_in_memory_is_said(
    cells, toy_run, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, "scbert")
    pd.DataFrame(cells.X.toarray(), cells.obs_names, cells.var_names).to_csv(tmp_path / "q.csv")
    annotate_file(tmp_path / "q.csv", toy_run.model, tmp_path / "out.h5ad")
    assert "nor a 10x .h5: read whole" in caplog.text
    assert "WARNING" not in caplog.text
    monkeypatch.setattr(query, "LARGE_GB", 1e-6)
    annotate_file(tmp_path / "q.csv", toy_run.model, tmp_path / "out.h5ad")
    assert "give the .h5 file that Cell Ranger writes beside the folder" in caplog.text
