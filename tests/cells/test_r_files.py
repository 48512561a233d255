"""PanglaoDB's files: small ones, real ones, and ones that were made to do harm."""

import bz2
import gzip
import lzma
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rdata
from scipy import sparse

from scbert.cells.quality import UnusableSample
from scbert.cells.r_files import read_rdata
from scbert.cells.r_objects import MAX_OBJECTS
from tests.panglaodb_samples import (
    integers,
    matrix_of,
    pairs,
    rdata_of,
    string,
    strings,
    write_sample,
)

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("SCBERT_SHARED_DATA", ROOT / "../shared/data")) / "panglaodb"
HUMAN = {  # genes (rows of sm), after those of one Ensembl id were added up
    "SRA605557_SRS2493626": 9793,
    "SRA617020_SRS2566664": 7947,
    "SRA705190_SRS4139632": 7664,
    "SRA782908_SRS3815594": 2759,
    "SRA823298_SRS4144446": 6995,
}
needs_shared_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"{SHARED} is absent (set SCBERT_SHARED_DATA)"
)
GENES = ["CD3D_ENSG00000167286.9", "HLA-A_ENSG00000206503.12", "LYZ_ENSG00000090382.6"]
CELLS = ["AAAC", "CCCG"]
COUNTS = [[1, 0], [0.5, 2], [0, 3]]  # genes x cells
NIL = struct.pack(">i", 254)


def write(folder, content, compress=gzip.compress):
    path = folder / "SRA1_SRS2.sparse.RData"
    path.write_bytes(compress(content))
    return path


def sample(folder, counts=COUNTS, genes=GENES, cells=CELLS):
    path = folder / "SRA1_SRS2.sparse.RData"
    shape = (len(genes), len(cells))
    write_sample(path, sparse.csc_matrix(np.reshape(counts, shape).astype(float)), genes, cells)
    return path


def with_slots(folder, **changed):
    """A sample whose slots of the matrix were changed."""
    csc = sparse.csc_matrix(np.array(COUNTS, dtype=float))
    parts = {name: getattr(csc, name) for name in ("indices", "indptr", "data", "nnz", "shape")}
    parts |= changed
    parts["nnz"] = len(parts["data"])
    arrays = {name: np.asarray(parts[name]) for name in ("indices", "indptr", "data")}
    fake = SimpleNamespace(**parts | arrays)
    return write(folder, rdata_of({"sm": matrix_of(fake, GENES, CELLS)}))


def read(path, max_gb=0.1):
    return read_rdata(path, max_gb)


def refuses(path, message, error=ValueError, max_gb=0.1):
    with pytest.raises(error, match=message) as raised:
        read(path, max_gb)
    assert str(path) in str(raised.value)


def test_read_rdata_of_a_sample_that_a_person_can_check(tmp_path):
    adata = read(sample(tmp_path))
    assert adata.X.toarray().tolist() == [[1, 0.5, 0], [0, 2, 3]]
    assert adata.X.dtype == np.float32
    assert adata.X.indices.dtype == np.int32
    assert adata.obs_names.tolist() == ["SRA1_SRS2_AAAC", "SRA1_SRS2_CCCG"]
    assert adata.var.symbol.tolist() == ["CD3D", "HLA-A", "LYZ"]
    assert adata.var_names.tolist() == adata.var.gene_id.tolist()
    assert adata.var.gene_id.tolist() == ["ENSG00000167286", "ENSG00000206503", "ENSG00000090382"]


@pytest.mark.parametrize(
    ("name", "symbol", "gene_id"),
    [
        ("A_B_ENSG00000000001.2", "A_B", "ENSG00000000001"),
        ("HLA-A-ENSG00000000001.2", "HLA-A", "ENSG00000000001"),
        ("X_ENSG00000000009.1_ENSG00000000001", "X_ENSG00000000009.1", "ENSG00000000001"),
        ("CD99_ENSG00000002586.18_PAR_Y", "CD99", "ENSG00000002586"),
        ("Cd3d_ENSMUSG00000032094.8", "Cd3d", "ENSMUSG00000032094"),
        ("ENSG00000000001.7", "", "ENSG00000000001"),
        ("ERCC-00002", "ERCC-00002", ""),
        ("MT_ENST00000000001", "MT_ENST00000000001", ""),
    ],
)
def test_read_rdata_splits_row_names_at_the_last_separator_before_the_id(
    tmp_path, name, symbol, gene_id
):
    var = read(sample(tmp_path, [[1, 1]], [name])).var
    assert (var.symbol.tolist(), var.gene_id.tolist()) == ([symbol], [gene_id])
    assert var.index.tolist() == [gene_id or symbol]


def test_read_rdata_adds_up_rows_of_one_gene_as_a_product_of_matrices_does(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.8, (30, 20)).astype(float)
    number = rng.integers(0, 12, 30)
    genes = [f"G{n}_ENSG{n:011d}.{row}" for row, n in enumerate(number)]
    adata = read(sample(tmp_path, counts, genes, [f"C{n}" for n in range(20)]))
    order = list(dict.fromkeys(number.tolist()))
    assert adata.var.symbol.tolist() == [f"G{n}" for n in order]
    expected = np.stack([counts[number == n].sum(axis=0) for n in order], axis=1)
    assert adata.X.toarray().tolist() == expected.tolist()
    assert adata.X.has_canonical_format
    assert adata.X.nnz == np.count_nonzero(expected)


@pytest.mark.parametrize(
    ("genes", "cells"), [(GENES, []), ([], CELLS), ([], [])], ids=["no cell", "no gene", "nothing"]
)
def test_read_rdata_of_an_empty_matrix(tmp_path, genes, cells):
    assert read(sample(tmp_path, [], genes, cells)).shape == (len(cells), len(genes))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_read_rdata_of_each_compression_of_save(tmp_path, compress):
    csc = sparse.csc_matrix(np.array(COUNTS, dtype=float))
    path = write(tmp_path, rdata_of({"sm": matrix_of(csc, GENES, CELLS)}), compress)
    assert read(path).X.toarray().tolist() == [[1, 0.5, 0], [0, 2, 3]]


def test_read_rdata_of_rpkm_only_and_of_repeated_barcodes_is_unusable_not_damaged(tmp_path):
    csc = sparse.csc_matrix(np.array(COUNTS, dtype=float))
    path = write(tmp_path, rdata_of({"sm2": matrix_of(csc, GENES, CELLS)}))
    refuses(path, "holds sm2, but counts are in 'sm'.*RPKM only", UnusableSample)
    path = sample(tmp_path, cells=["AAAC", "AAAC"])
    refuses(path, r"1 cells whose barcode another cell has too \(SRA1_SRS2_AAAC\)", UnusableSample)


def test_read_rdata_refuses_a_name_that_h5ad_cannot_hold(tmp_path):
    path = sample(tmp_path, cells=["A\0", *CELLS[1:]])
    refuses(path, "a string holds a zero byte")


def test_read_rdata_ignores_what_stands_beside_sm(tmp_path):
    csc = sparse.csc_matrix(np.array(COUNTS, dtype=float))
    sm = matrix_of(csc, GENES, CELLS)
    path = write(tmp_path, rdata_of({"sm2": strings(["a"]), "sm": sm, "n": integers(csc.indptr)}))
    assert read(path).shape == (2, 3)


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({"indptr": [0, 3, 2]}, "2 values are declared, 4 are there"),
        ({"indptr": [0, 5, 4]}, "cells overlap"),
        ({"indptr": [1, 2, 4]}, "values are declared"),
        ({"indptr": [0, 4]}, r"3 x 2 names, 3 x 2 values"),
        ({"indices": [0, 1, 1, 3]}, "gene 3 of 3"),
        ({"indices": [0, 1, -1, 2]}, "gene 2 of 3"),
        ({"indices": [1, 0, 1, 2]}, "out of order"),
        ({"indices": [0, 0, 1, 2]}, "out of order"),
        ({"indices": [0, 1, 1]}, "values are declared"),
        ({"data": [1.0, 2.0, 3.0]}, "4 values are declared, 3 are there"),
        ({"data": [1.0, np.nan, 2, 3]}, "1 values are not finite numbers"),
        ({"data": [1.0, np.inf, 2, 1e300]}, "2 values are not finite numbers"),
        ({"shape": (4, 2)}, "3 x 2 names, 4 x 2 values"),
        ({"shape": (3, -2)}, "names, 3 x -2 values"),
    ],
)
def test_read_rdata_refuses_a_matrix_that_is_none(tmp_path, slots, message):
    refuses(with_slots(tmp_path, **slots), f"not a sparse matrix of genes x cells .*{message}")


def test_read_rdata_refuses_another_class_and_missing_slots(tmp_path):
    s4 = struct.pack(">i", 25 | 0x300)
    other = s4 + pairs({"class": strings(["dgTMatrix"])})
    refuses(write(tmp_path, rdata_of({"sm": other})), r"it is a \['dgTMatrix'\]")
    bare = s4 + pairs({"class": strings(["dgCMatrix"])})
    refuses(write(tmp_path, rdata_of({"sm": bare})), r"KeyError\('Dim'\)")
    refuses(write(tmp_path, rdata_of({"sm": strings(["x"])})), r"KeyError\('class'\)")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x1f\x8b garbage", b"RDX3\nX\n", b"BZh9"])
def test_read_rdata_refuses_garbage(tmp_path, content):
    path = write(tmp_path, content, bytes)
    refuses(path, r"RData cannot be read as an R file \(.*Download it again")


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_read_rdata_refuses_a_truncated_file_and_one_that_goes_on(tmp_path, compress):
    csc = sparse.csc_matrix(np.array(COUNTS, dtype=float))
    whole = compress(rdata_of({"sm": matrix_of(csc, GENES, CELLS)}))
    refuses(write(tmp_path, whole[:-20], bytes), "cannot be read as an R file")
    refuses(write(tmp_path, whole + b"more", bytes), "cannot be read as an R file")


CODE = {  # what R would evaluate: type, and a body in R's format
    "CLO": struct.pack(">i", 3) + NIL + NIL + NIL,
    "ENV": struct.pack(">ii", 4, 0) + 4 * NIL,
    "PROM": struct.pack(">i", 5) + NIL + NIL + NIL,
    "LANG": struct.pack(">ii", 6, 1) + string("system") + pairs({"x": strings(["touch owned"])}),
    "BUILTIN": struct.pack(">ii", 8, 6) + b"system",
    "EXPR": struct.pack(">ii", 20, 0),
    "BCODE": struct.pack(">ii", 21, 1) + NIL + struct.pack(">i", 0),
    "EXTPTR": struct.pack(">i", 22) + NIL + NIL,
    "WEAKREF": struct.pack(">i", 23),
    "GLOBALENV": struct.pack(">i", 253),
}


@pytest.mark.parametrize("kind", CODE)
def test_read_rdata_refuses_whatever_is_no_data(tmp_path, kind):
    """Wherever it stands: as an object, or inside an attribute of the matrix."""
    message = f"object of type {kind}, which is not data"
    refuses(write(tmp_path, rdata_of({"sm": CODE[kind]})), message)
    inside = struct.pack(">i", 25 | 0x300) + pairs({"i": CODE[kind]})
    refuses(write(tmp_path, rdata_of({"sm": inside})), message)


WATCH = """
import sys
from pathlib import Path
from scbert.cells.r_files import read_rdata
def read(path):
    try:
        read_rdata(Path(path), 0.1)
    except ValueError:
        pass
read(sys.argv[1])  # whatever is imported late is imported now
DONE = {"open"}
def watch(event, arguments):
    if event == "open" and set(str(arguments[1])) & set("wax+"):
        raise SystemExit(f"wrote {arguments}")
    if event not in DONE and on:
        raise SystemExit(f"{event} {arguments}")
on = True
sys.addaudithook(watch)
for path in sys.argv[1:]:
    read(path)
print("only read")
"""


def test_read_rdata_runs_nothing(tmp_path):
    """Python reports imports, exec, processes, sockets and files: there are none but the file."""
    files = [sample(tmp_path)]
    docstring = strings(['::: system("touch owned")', "__import__('os').system('touch owned')"])
    factor = struct.pack(">ii", 13 | 0x300, 1) + struct.pack(">i", 7)
    factor += pairs({"levels": docstring, "class": strings(["factor"])})
    hostile = {"doc": docstring, "factor": factor, "__class__": docstring}
    for name, body in {**CODE, **hostile}.items():
        files.append(tmp_path / f"{name}.RData")
        files[-1].write_bytes(rdata_of({"sm": body}))
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *map(str, files)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("only read\n", 0), done.stderr
    assert not (tmp_path / "owned").exists()


def test_rdata_is_the_version_that_was_read():
    """A new one may run code or construct classes: read it before this number is raised."""
    assert rdata.__version__ == "1.0.0"


def peak_memory(path, message, max_gb=0.1):
    """Bytes that Python reserved until the file was refused."""
    tracemalloc.start()
    refuses(path, message, max_gb=max_gb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_read_rdata_stops_a_decompression_bomb(tmp_path):
    """150 MB of zeros in 150 kB; 20 MB are allowed."""
    path = write(tmp_path, bytes(150_000_000), lambda data: gzip.compress(data, 1))
    assert path.stat().st_size < 1_000_000
    message = "larger than 0.02 GB, the largest that counts.max_rdata_gb allows"
    assert peak_memory(path, message, max_gb=0.02) < 50e6


def test_read_rdata_does_not_load_a_file_larger_than_the_limit(tmp_path):
    path = tmp_path / "SRA1_SRS2.sparse.RData"
    with path.open("wb") as handle:
        handle.truncate(10**12)  # a hole: takes no space
    assert peak_memory(path, r"larger than 0.1 GB") < 1e6


LONG = struct.pack(">i", 2**31 - 1)
HUGE = {
    "integers": struct.pack(">i", 13) + LONG,
    "reals": struct.pack(">i", 14) + LONG,
    "a long vector": struct.pack(">iiii", 14, -1, 2**30, 0),
    "strings": struct.pack(">i", 16) + LONG,
    "one string": struct.pack(">iii", 16, 1, 9) + LONG,
    "a list": struct.pack(">i", 19) + LONG,
    "a negative list": struct.pack(">ii", 19, -5),
    "symbol": struct.pack(">ii", 1, 9) + LONG,
    "a sequence": struct.pack(">i", 238)
    + struct.pack(">i", 2)
    + struct.pack(">i", 1)
    + string("compact_intseq")
    + NIL
    + struct.pack(">ii", 14, 3)
    + struct.pack(">ddd", 2**31, 1, 1)
    + NIL,
    "deep pairs": struct.pack(">i", 2) * 300_000 + NIL,
    "deep lists": struct.pack(">ii", 19, 1) * 300_000 + NIL,
    "many objects": struct.pack(">ii", 19, MAX_OBJECTS // 2)
    + (struct.pack(">ii", 19, 3) + 3 * NIL) * (MAX_OBJECTS // 2),
}


@pytest.mark.parametrize("kind", HUGE)
def test_read_rdata_reserves_no_memory_for_what_is_only_declared(tmp_path, kind):
    path = write(tmp_path, rdata_of({"sm": HUGE[kind]}))
    assert peak_memory(path, r"cannot be read as an R file \(") < 12e6


def test_read_rdata_takes_vectors_that_r_has_wrapped(tmp_path):
    """R 3.6 and later write some vectors as ALTREP: the vector and two flags."""

    def wrap(kind, body):
        info = struct.pack(">ii", 2, 1) + string(f"wrap_{kind}") + NIL
        state = struct.pack(">i", 2) + body + integers(np.array([0, 0]))
        return struct.pack(">i", 238) + info + state + NIL

    csc = sparse.csc_matrix(np.array(COUNTS, dtype=float))
    x = struct.pack(">ii", 14, csc.nnz) + csc.data.astype(">f8").tobytes()
    slots = {
        "i": wrap("integer", integers(csc.indices)),
        "p": integers(csc.indptr),
        "Dim": integers(np.array(csc.shape)),
        "Dimnames": struct.pack(">ii", 19, 2) + wrap("string", strings(GENES)) + strings(CELLS),
        "x": wrap("real", x),
        "class": strings(["dgCMatrix"]),
    }
    content = rdata_of({"sm": struct.pack(">i", 25 | 0x300) + pairs(slots)})
    assert read(write(tmp_path, content)).X.toarray().tolist() == [[1, 0.5, 0], [0, 2, 3]]


def read_sm(path):
    """Read the object of counts as it is: x, i, p, Dim and Dimnames."""
    with pytest.warns(UserWarning, match="Missing constructor"):
        return rdata.read_rda(path)["sm"]


def rdata_file(name):
    return SHARED / f"rdata/{name}.sparse.RData"


@needs_shared_data
@pytest.mark.parametrize("sample", HUMAN)
def test_read_rdata_of_a_human_sample(sample):
    adata = read(rdata_file(sample))
    assert adata.shape == (50, HUMAN[sample])
    assert adata.X.dtype == np.float32
    assert adata.X.data.min() > 0
    assert adata.obs_names.str.fullmatch(sample + "_[ACGTN]{12,16}").all()
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique
    with_id = adata.var[adata.var.gene_id != ""]
    assert with_id.gene_id.str.fullmatch(r"ENSG\d{11}").all()
    assert with_id.index.tolist() == with_id.gene_id.tolist()
    assert len(with_id) == adata.n_vars
    assert not adata.var.symbol.str.contains("ENSG|PAR_Y").any()


@needs_shared_data
def test_read_rdata_splits_symbol_and_id_of_known_genes():
    var = read(rdata_file("SRA605557_SRS2493626")).var
    assert var.symbol["ENSG00000121410"] == "A1BG"
    assert var.symbol["ENSG00000090382"] == "LYZ"
    assert (var.symbol == "HLA-A").sum() == 1  # a hyphen of the symbol is no separator


@needs_shared_data
def test_read_rdata_adds_up_the_rows_of_a_gene_that_x_and_y_share():
    """CD99_ENSG00000002586.18 and CD99_ENSG00000002586.18_PAR_Y, by rdata itself."""
    path = rdata_file("SRA823298_SRS4144446")
    sm = read_sm(path)
    matrix = sparse.csc_matrix((sm.x, sm.i, sm.p), shape=tuple(sm.Dim))
    names = [str(name) for name in sm.Dimnames[0]]
    rows = [row for row, name in enumerate(names) if name.startswith("CD99_")]
    assert [names[row].partition(".18")[2] for row in rows] == ["", "_PAR_Y"]
    found = read(path)[:, "ENSG00000002586"]
    assert found.var.symbol.tolist() == ["CD99"]
    expected = matrix[rows].sum(axis=0)
    assert found.X.toarray().ravel() == pytest.approx(np.asarray(expected).ravel())


@needs_shared_data
def test_read_rdata_of_the_mouse_sample():
    adata = read(rdata_file("SRA578634_SRS2302659"))
    assert adata.shape == (50, 13_272)
    assert adata.var.gene_id.str.fullmatch(r"ENSMUSG\d{11}").all()


@needs_shared_data
def test_read_rdata_keeps_every_count():
    """Read by rdata itself: the sum over the file, whatever the names of its rows."""
    path = rdata_file("SRA782908_SRS3815594")
    sm = read_sm(path)
    adata = read(path)
    assert adata.X.sum() == pytest.approx(sm.x.sum())
    per_cell = np.add.reduceat(sm.x, sm.p[:-1])  # column by column
    assert np.asarray(adata.X.sum(axis=1)).ravel() == pytest.approx(per_cell)
