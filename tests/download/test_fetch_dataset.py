"""Steps fetch_dataset and fetch_mtx: from packages, from a loopback site, from hostile archives."""

import gzip
import io
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from scbert.config import CorpusSample, SourceSettings, load_config
from scbert.config.inputs import fetched_suffix, is_fetched
from scbert.files import sha256_of
from scbert.steps.fetch_dataset import fetch_dataset
from scbert.steps.fetch_mtx import fetch_mtx
from tests.loopback import PAGE, Site, fails_often

ROOT = Path(__file__).parents[2]
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
MATRIX = b"%%MatrixMarket matrix coordinate integer general\n2 1 1\n1 1 5\n"
FOLDER = {
    "matrix.mtx.gz": gzip.compress(MATRIX),
    "barcodes.tsv.gz": gzip.compress(b"ACGT-1\n"),
    "features.tsv.gz": gzip.compress(b"ENSG1\tA\tGene Expression\nENSG2\tB\tGene Expression\n"),
}
OLD_FOLDER = {"matrix.mtx": MATRIX, "barcodes.tsv": b"ACGT-1\n", "genes.tsv": b"ENSG1\tA\n"}


def from_source(source, folder, sha256="", **how):
    given = {"attempts": 60, "wait": 0.0, "drop_in": "", "checksums": str(folder / "log.tsv")} | how
    download = CONFIG.download.model_copy(update=given)
    return SourceSettings(source=source, sha256=sha256, download=download)


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Site() as site:
        yield site


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("package:no_such_package/cells.h5ad", "'no_such_package' is not installed. Do: pip inst"),
        ("package:scanpy/no_such_file.h5ad", "'scanpy' has no file 'no_such_file.h5ad'. Name a f"),
        ("package:scanpy/../anndata/__init__.py", "'scanpy' has no file '../anndata/__init__.py'"),
        ("package:scanpy//etc/passwd", "'scanpy' has no file '/etc/passwd'"),
        ("package:scanpy/datasets", "'scanpy' has no file 'datasets'"),
        ("package:scanpy", "'scanpy' has no file ''"),
        ("package:../etc/passwd", r"'..' is not the name of a package. Write package:NAME/FILE"),
        ("package:/etc/passwd", "'' is not the name of a package. Write package:NAME/FILE"),
        ("package:no.such/file", "'no.such' is not the name of a package"),
    ],
)
def test_fetch_dataset_refuses_what_no_package_ships(tmp_path, source, message):
    target = tmp_path / "resources/cells.h5ad"
    with pytest.raises(ValueError, match=message):
        fetch_dataset(target, from_source(source, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_fetch_dataset_copies_a_file_of_a_package(tmp_path):
    fetch_dataset(tmp_path / "new/__init__.py", from_source("package:scbert/__init__.py", tmp_path))
    expected = (ROOT / "scbert/__init__.py").read_bytes()
    assert (tmp_path / "new/__init__.py").read_bytes() == expected


def h5_file(path):
    with h5py.File(path, "w") as file:
        file["X"] = np.random.default_rng(0).random(50_000)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["h5ad", "h5"])
def test_fetch_dataset_brings_a_file_of_the_network(site, tmp_path, suffix):
    site.files["/cells"] = h5_file(tmp_path / "made")
    site.etags["/cells"], site.mood = '"1"', fails_often(seed=3)
    target = tmp_path / f"resources/kang.{suffix}"
    url = f"{site.url}/cells"
    fetch_dataset(target, from_source(url, tmp_path))
    assert target.read_bytes() == site.files["/cells"]
    assert f"{url}\t{sha256_of(target)}\t" in (tmp_path / "log.tsv").read_text()


def test_fetch_dataset_fetches_anew_what_the_table_names_anew(site, tmp_path):
    site.files = {"/1.csv": b"a,b\n1,2\n", "/2.csv": b"a,b\n3,4\n"}
    target = tmp_path / "genes.csv"
    for path in ("/1.csv", "/2.csv", "/2.csv", "/1.csv"):
        fetch_dataset(target, from_source(site.url + path, tmp_path))
        assert target.read_bytes() == site.files[path]
    assert [asked.path for asked in site.asked] == ["/1.csv", "/2.csv", "/1.csv"]


def test_fetch_dataset_compares_the_sha256_of_the_table(site, tmp_path):
    site.files["/1.csv"] = b"a,b\n1,2\n"
    settings = from_source(site.url + "/1.csv", tmp_path, sha256="a" * 64)
    with pytest.raises(ValueError, match=r"but the configuration expects a{64}"):
        fetch_dataset(tmp_path / "1.csv", settings)
    assert not (tmp_path / "1.csv").exists()


@pytest.mark.parametrize(
    ("target", "body", "message"),
    [
        ("cells.h5ad", PAGE, "the site sent a web page instead of a file"),
        ("cells.h5ad", b"a,b\n", r"not an HDF5 file such as .h5ad or .h5 \(it starts with b'a,b"),
        ("genes.csv", b"no table\n", r"not a CSV file \(it starts with b'no table"),
        ("genes.csv", b"\x00,\x01", "not a CSV file"),
    ],
)
def test_fetch_dataset_refuses_another_kind_of_file(site, tmp_path, target, body, message):
    site.files["/file"] = body
    with pytest.raises(ValueError, match=message):
        fetch_dataset(tmp_path / target, from_source(site.url + "/file", tmp_path, attempts=1))
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize("files", [FOLDER, OLD_FOLDER], ids=["version 3", "version 2"])
def test_fetch_mtx_brings_a_folder_file_by_file(site, tmp_path, files):
    site.files = {f"/pbmc/{name}": content for name, content in files.items()}
    site.mood = fails_often(seed=4)
    folder = tmp_path / "resources/pbmc"
    fetch_mtx(folder, from_source(site.url + "/pbmc/", tmp_path))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert [path.name for path in folder.parent.iterdir() if path.name[0] != "."] == ["pbmc"]


def test_fetch_mtx_takes_an_archive_but_no_single_file_from_the_drop_in_folder(site, tmp_path):
    """Any folder has a matrix.mtx.gz: it could be that of another."""
    (tmp_path / "drop_in").mkdir()
    (tmp_path / "drop_in/matrix.mtx.gz").write_bytes(gzip.compress(MATRIX + b"other"))
    (tmp_path / "drop_in/second.tar.gz").write_bytes(archive_of(within("x", OLD_FOLDER)))
    site.files = {f"/pbmc/{name}": content for name, content in FOLDER.items()}
    how = {"drop_in": str(tmp_path / "drop_in")}
    fetch_mtx(tmp_path / "first", from_source(site.url + "/pbmc/", tmp_path, **how))
    assert (tmp_path / "first/matrix.mtx.gz").read_bytes() == FOLDER["matrix.mtx.gz"]
    n_asked = len(site.asked)
    fetch_mtx(tmp_path / "second", from_source(site.url + "/second.tar.gz", tmp_path, **how))
    assert (tmp_path / "second/matrix.mtx").read_bytes() == MATRIX
    assert len(site.asked) == n_asked


def test_fetch_mtx_names_what_a_folder_lacks(site, tmp_path):
    site.files = {f"/pbmc/{name}": FOLDER[name] for name in list(FOLDER)[:2]}
    with pytest.raises(ValueError, match=r"has none of features.tsv.gz, features.tsv, genes"):
        fetch_mtx(tmp_path / "pbmc", from_source(site.url + "/pbmc/", tmp_path))
    with pytest.raises(ValueError, match="have no common sha256"):
        fetch_mtx(tmp_path / "pbmc", from_source(site.url + "/pbmc/", tmp_path, sha256="a" * 64))
    assert not (tmp_path / "pbmc").exists()


def archive_of(members):
    """A .tar.gz: name -> content, or a TarInfo that says more than that."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def within(folder, files):
    return [(f"{folder}/{name}", content) for name, content in files.items()]


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return (name, info)


def sparse(name, size):
    """A file of holes: a few bytes in the archive, as many as wanted outside."""
    info = tarfile.TarInfo(name)
    info.pax_headers = {
        "GNU.sparse.size": str(size),
        "GNU.sparse.numblocks": "0",
        "GNU.sparse.map": f"{size},0",
    }
    return (name, info)


@pytest.mark.parametrize(("files", "inside"), [(FOLDER, "."), (OLD_FOLDER, "matrices_mex/hg19")])
def test_fetch_mtx_takes_the_three_files_of_an_archive_and_no_other(site, tmp_path, files, inside):
    others = [("README", b"read me"), ("other/matrix.mtx", MATRIX), ("a/._matrix.mtx", b"apple")]
    site.files["/pbmc.tar.gz"] = archive_of(others + within(inside, files))
    folder = tmp_path / "resources/pbmc"
    settings = from_source(site.url + "/pbmc.tar.gz", tmp_path)
    fetch_mtx(folder, settings)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    fetch_mtx(folder, settings)  # after Snakemake removed the folder, say
    assert len(site.asked) == 1


HOSTILE = {
    "upwards": ([("../evil", b"x")], r"names a place outside itself: ../evil"),
    "upwards inside": ([("a/../../matrix.mtx", MATRIX)], "names a place outside itself"),
    "absolute": ([("/tmp/evil/matrix.mtx", MATRIX)], "names a place outside itself: /tmp/evil"),
    "symbolic link": (
        [special("x/matrix.mtx", tarfile.SYMTYPE, "barcodes.tsv")],
        "x/matrix.mtx in it is not a regular file but a link",
    ),
    "link outside": ([special("x", tarfile.SYMTYPE, "/etc/passwd")], "cannot be unpacked .*link"),
    "hard link": ([special("x/matrix.mtx", tarfile.LNKTYPE, "README")], "not a regular file"),
    "device": ([special("x", tarfile.CHRTYPE)], "cannot be unpacked .*special file"),
    "fifo": ([special("x/genes.tsv", tarfile.FIFOTYPE)], "cannot be unpacked .*special file"),
    "two folders": (within("raw", FOLDER) + within("filtered", FOLDER), "holds 2 folders .*filt"),
    "none": ([("matrix.mtx", MATRIX)], r"holds 0 folders .*\(none\).*Unpack it and name"),
    "both lists": ([*within("a", FOLDER), ("a/genes.tsv", b"x")], "holds 0 folders"),
    "too large": (within("a", FOLDER | {"matrix.mtx.gz": bytes(3_000_000)}), "download.max_gb"),
    "sparse bomb": ([sparse("a/matrix.mtx", 10**12)], "is 1000000000015 bytes, more than downl"),
    "not a tar": (None, "cannot be unpacked"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_fetch_mtx_refuses_a_hostile_archive_and_writes_nothing(site, tmp_path, name):
    members, message = HOSTILE[name]
    good = within("good", OLD_FOLDER)
    if name in ("none", "two folders", "both lists"):
        good = []
    elif name == "sparse bomb":
        good = within("a", OLD_FOLDER)[1:]
    archive = gzip.compress(b"no tar" * 100) if members is None else archive_of(members + good)
    site.files["/pbmc.tgz"] = archive
    here = tmp_path / "here"
    how = {"attempts": 1, "max_gb": 0.002}
    with pytest.raises(ValueError, match=message):
        fetch_mtx(here / "pbmc", from_source(site.url + "/pbmc.tgz", tmp_path, **how))
    kept = {path.name for path in here.iterdir()} - {".unfinished"}
    assert kept <= {"pbmc.tar.gz"}
    assert {path.name for path in tmp_path.iterdir()} <= {"here", "log.tsv", ".log.tsv.lock"}


def test_a_truncated_archive_is_refused(site, tmp_path):
    site.length, site.files["/pbmc.tgz"] = False, archive_of(within("a", FOLDER))[:-9]
    with pytest.raises(ValueError, match="truncated or damaged"):
        fetch_mtx(tmp_path / "pbmc", from_source(site.url + "/pbmc.tgz", tmp_path, attempts=1))


@pytest.mark.parametrize(
    ("file", "suffix"),
    [
        ("package:scanpy/datasets/10x_pbmc68k_reduced.h5ad", ".h5ad"),
        ("https://site.org/cells.h5ad", ".h5ad"),
        ("https://site.org/cells.h5?download=1", ".h5"),
        ("https://site.org/get?id=1#cells.csv", ".csv"),
        ("https://site.org/matrices.tar.gz", ""),
        ("https://site.org/get?id=1#matrices.tgz", ""),
        ("http://site.org/pbmc/", ""),
    ],
)
def test_the_address_tells_what_a_file_is(file, suffix):
    assert is_fetched(file)
    assert fetched_suffix(file) == suffix


def test_an_address_that_tells_nothing_is_refused():
    assert not is_fetched("mine/cells.h5ad")
    with pytest.raises(ValueError, match=r"ends in none of .h5ad, .h5, .csv .*behind a #"):
        fetched_suffix("https://site.org/get?id=1")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"file": "https://site.org/cells.zip"}, "ends in none of .h5ad"),
        ({"sha256": "abc"}, "should match pattern"),
    ],
)
def test_a_line_of_the_corpus_that_cannot_be_fetched_is_refused(changed, message):
    line = {"sample": "s", "file": "https://site.org/x.h5", "matrix": "X", "scale": "counts"}
    CorpusSample.model_validate(line | {"sha256": "f" * 64})
    with pytest.raises(ValueError, match=message):
        CorpusSample.model_validate(line | {"sha256": ""} | changed)
