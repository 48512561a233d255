"""PanglaoDB's files as they are, its table, and a server on loopback in place of its site."""

import gc
import http.server
import os
import threading
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import rdata
import yaml
from scipy import sparse

from scbert.cells.panglaodb import choose_samples, read_metadata
from scbert.cells.r_files import read_rdata
from scbert.config import ReadSettings, SampleSettings, load_config
from scbert.files import read_json
from scbert.steps.panglaodb import fetch_panglaodb, fetch_panglaodb_tables, select_samples
from scbert.steps.read import read_counts

ROOT = Path(__file__).parents[1]
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
PANGLAODB = CONFIG.corpus.panglaodb
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


def read_sm(path):
    """Read the object of counts as it is: x, i, p, Dim and Dimnames."""
    with pytest.warns(UserWarning, match="Missing constructor"):
        return rdata.read_rda(path)["sm"]


def rdata_file(sample):
    return SHARED / f"rdata/{sample}.sparse.RData"


@needs_shared_data
@pytest.mark.parametrize("sample", HUMAN)
def test_read_rdata_of_a_human_sample(sample):
    adata = read_rdata(rdata_file(sample))
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
    var = read_rdata(rdata_file("SRA605557_SRS2493626")).var
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
    found = read_rdata(path)[:, "ENSG00000002586"]
    assert found.var.symbol.tolist() == ["CD99"]
    expected = matrix[rows].sum(axis=0)
    assert found.X.toarray().ravel() == pytest.approx(np.asarray(expected).ravel())


@needs_shared_data
def test_read_rdata_of_the_mouse_sample():
    adata = read_rdata(rdata_file("SRA578634_SRS2302659"))
    assert adata.shape == (50, 13_272)
    assert adata.var.gene_id.str.fullmatch(r"ENSMUSG\d{11}").all()


@needs_shared_data
def test_read_rdata_keeps_every_count():
    """Read by rdata itself: the sum over the file, whatever the names of its rows."""
    path = rdata_file("SRA782908_SRS3815594")
    sm = read_sm(path)
    adata = read_rdata(path)
    assert adata.X.sum() == pytest.approx(sm.x.sum())
    per_cell = np.add.reduceat(sm.x, sm.p[:-1])  # column by column
    assert np.asarray(adata.X.sum(axis=1)).ravel() == pytest.approx(per_cell)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x1f\x8b garbage", b"RDX3\nX\n"])
def test_read_rdata_refuses_garbage(tmp_path, content):
    path = tmp_path / "SRA1_SRS1.sparse.RData"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"RData cannot be read as an R file \(.*Download it again"
    ):
        read_rdata(path)


@needs_shared_data
def test_read_rdata_refuses_a_truncated_file(tmp_path):
    content = rdata_file("SRA782908_SRS3815594").read_bytes()
    path = tmp_path / "SRA782908_SRS3815594.sparse.RData"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cannot be read as an R file \(.*Download it again"):
        read_rdata(path)


@needs_shared_data
def test_read_counts_takes_fractions_of_panglaodb_as_counts(tmp_path):
    """PanglaoDB divides a read between genes; 20 of these 50 cells are nearly empty."""
    settings = ReadSettings(
        sample="s",
        source="PanglaoDB",
        counts=CONFIG.counts.model_copy(update={"min_genes": 200}),
        normalization=CONFIG.normalization,
        matrix="auto",
        scale="auto",
        dataset=None,
    )
    cells = rdata_file("SRA782908_SRS3815594")
    read_counts(cells, tmp_path / "s.h5ad", tmp_path / "s.json", settings)
    counts, quality = ad.read_h5ad(tmp_path / "s.h5ad"), read_json(tmp_path / "s.json")
    assert quality["scale"] == "raw counts"
    assert quality["cells_read"] == 50
    assert 0 < counts.n_obs == quality["cells_kept"] < 50
    assert counts.obs.n_genes.min() >= 200
    assert (counts.X.data != np.round(counts.X.data)).any()
    assert list(counts.obs) == ["library_size", "n_genes"]


def metadata(*rows):
    """SRA, SRS, protocol, species, tumour, cell line; the rest does not matter."""
    columns = ["sra", "srs", "protocol", "species", "tumour", "cell_line"]
    return pd.DataFrame(rows, columns=columns)


HUMAN_10X = ("10x chromium", "Homo sapiens")
NOTHING = pd.DataFrame({"accession": [], "reason": []}, dtype=str)


def reasons(table, exclusions=NOTHING, **changes):
    settings = PANGLAODB.model_copy(update=changes)
    chosen = choose_samples(table, exclusions, settings)
    assert ((chosen.included == "yes") == (chosen.reason == "")).all()
    return chosen.reason.tolist()


def test_choose_samples_gives_the_reason():
    table = metadata(
        ("SRA1", "SRS1", *HUMAN_10X, "0", "0"),
        ("SRA1", "SRS2", "10x chromium", "Mus musculus", "0", "0"),
        ("SRA2", "notused", *HUMAN_10X, "0", "0"),
        ("SRA3", "SRS3", "Smart-seq2", "Homo sapiens", "0", "0"),
        ("SRA4", "SRS4", *HUMAN_10X, "1", "0"),
        ("SRA5", "SRS5", *HUMAN_10X, "0", "1"),
        ("SRA6", "SRS6", *HUMAN_10X, np.nan, np.nan),
        ("SRA7", "SRS7", "10x chromium", np.nan, "0", "0"),
    )
    before = table.copy()
    protocol = "protocol is not one of those asked for"
    expected = [
        *("", "species is not Homo sapiens", "has no SRS accession", protocol),
        *("tumour", "cell line", "", "species is not Homo sapiens"),
    ]
    assert reasons(table) == expected
    pd.testing.assert_frame_equal(table, before)
    everything = {"include_tumour": True, "include_cell_line": True}
    assert reasons(table, **everything)[4:6] == ["", ""]


def test_choose_samples_excludes_by_study_and_by_sample():
    """Also where nobody wrote why: an accession in the table must not enter."""
    table = metadata(*((f"SRA{n}", f"SRS{n}", *HUMAN_10X, "0", "0") for n in range(4)))
    exclusions = pd.DataFrame(
        {"accession": ["SRA1", "SRS2", "SRA3"], "reason": ["benchmark", "bad", ""]}
    )
    assert reasons(table, exclusions) == ["", "benchmark", "bad", "excluded"]


@needs_shared_data
def test_the_real_table_gives_human_samples_without_the_benchmark():
    table = read_metadata(SHARED / "metadata.txt")
    exclusions = pd.read_csv(ROOT / PANGLAODB.exclusions, sep="\t", dtype=str)
    chosen = choose_samples(table, exclusions, PANGLAODB)
    joined = chosen[chosen.included == "yes"]
    assert len(chosen) == 1369
    assert 100 < len(joined) < 305
    assert set(joined.species) == {"Homo sapiens"}
    assert set(joined.protocol) <= set(PANGLAODB.protocols)
    assert not (joined.tumour == "1").any()
    assert not (joined.cell_line == "1").any()
    assert joined["sample"].is_unique
    assert joined["sample"].str.fullmatch(r"SRA\d+_SRS\d+").all()
    macparland = chosen[chosen.sra == "SRA716608"]
    assert len(macparland) == 5
    assert (macparland.included == "no").all()
    assert macparland.reason.str.contains("MacParland").all()


@needs_shared_data
def test_read_metadata_knows_the_unknown():
    r"""\N is unknown, and only that: 'NA' would be a tissue."""
    table = read_metadata(SHARED / "metadata.txt").set_index("sample")
    assert table.tumour["SRA599311_SRS2431649"] == "0"
    assert pd.isna(table.tumour["SRA611700_SRS2532370"])
    assert table.tissue["SRA605557_SRS2493626"] == "Cd14+ monocytes"


@needs_shared_data
def test_select_samples_writes_all_samples_or_refuses(tmp_path):
    exclusions, samples = ROOT / PANGLAODB.exclusions, tmp_path / "samples.tsv"
    select_samples(SHARED / "metadata.txt", exclusions, samples, PANGLAODB)
    assert len(pd.read_csv(samples, sep="\t")) == 1369
    samples.unlink()
    settings = PANGLAODB.model_copy(update={"species": "Danio rerio"})
    with pytest.raises(
        ValueError, match=r"none of the 1369 samples .*species is not Danio.*Loosen"
    ):
        select_samples(SHARED / "metadata.txt", exclusions, samples, settings)
    assert list(tmp_path.iterdir()) == []


class Site:
    """A web server on loopback; `pages` holds path -> (status, body, length it claims)."""

    def __init__(self):
        self.pages = {}
        self.seen = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                site.seen.append((self.path, self.headers["User-Agent"]))
                status, body, length = site.pages.get(self.path, (404, b"no such page", 12))
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                """Keep quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def give(self, body, status=200, length=None):
        path = "/data_dl.php?sra=SRA1&srs=SRS2&filetype=R"
        self.pages[path] = (status, body, len(body) if length is None else length)

    def settings(self):
        url = self.url + "/data_dl.php?sra={sra}&srs={srs}&filetype=R"
        panglaodb = PANGLAODB.model_copy(
            update={"counts_url": url, "metadata_url": self.url + "/metadata.txt"}
        )
        return SampleSettings(sample="SRA1_SRS2", panglaodb=panglaodb)


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    site = Site()
    yield site
    site.close()


def test_fetch_panglaodb_downloads_under_the_name_of_a_browser(site, tmp_path):
    body = b"\x1f\x8b" + np.random.default_rng(0).bytes(70_000)
    site.give(body)
    target = tmp_path / "resources/SRA1_SRS2.sparse.RData"
    fetch_panglaodb(target, site.settings())
    assert target.read_bytes() == body
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert site.seen == [("/data_dl.php?sra=SRA1&srs=SRS2&filetype=R", PANGLAODB.user_agent)]
    assert PANGLAODB.user_agent.startswith("Mozilla/5.0")


@needs_shared_data
def test_a_downloaded_sample_can_be_read(site, tmp_path):
    site.give(rdata_file("SRA782908_SRS3815594").read_bytes())
    target = tmp_path / "SRA1_SRS2.sparse.RData"
    fetch_panglaodb(target, site.settings())
    assert read_rdata(target).obs_names[0].startswith("SRA1_SRS2_")


def test_fetch_panglaodb_tables_downloads_the_table(site, tmp_path):
    body = b'"SRA1","SRS2"\n'
    site.pages["/metadata.txt"] = (200, body, len(body))
    fetch_panglaodb_tables(tmp_path / "metadata.txt", site.settings().panglaodb)
    assert (tmp_path / "metadata.txt").read_bytes() == body


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((b"<html>Too many connections</html>",), r"not an R file \(it starts with b'<html>'"),
        ((b"",), r"not an R file \(it starts with b''"),
        ((b"busy", 503), "cannot be downloaded .503 Server Error.*Check the connection"),
        ((b"\x1f\x8b half", 200, 90_000), r"cannot be downloaded \(.*Check the connection"),
    ],
    ids=["HTML", "empty", "busy", "truncated"],
)
@pytest.mark.parametrize("old", [None, b"\x1f\x8b old"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pooch's socket
def test_fetch_panglaodb_refuses_what_is_no_sample(site, tmp_path, answer, message, old):
    """What was there before stays; nothing else is left behind."""
    site.give(*answer)
    target = tmp_path / "SRA1_SRS2.sparse.RData"
    if old:
        target.write_bytes(old)
    with pytest.raises(ValueError, match=message) as error:
        fetch_panglaodb(target, site.settings())
    assert f"put the file at {target} by hand" in str(error.value)
    del error
    gc.collect()  # the socket that pooch leaves open, here and not in another test
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([old] if old else [])


def test_fetch_panglaodb_tables_says_when_nobody_answers(tmp_path):
    site = Site()
    settings = site.settings().panglaodb
    site.close()
    with pytest.raises(ValueError, match=r"metadata.txt cannot be downloaded \(.*put the file at"):
        fetch_panglaodb_tables(tmp_path / "metadata.txt", settings)
    assert list(tmp_path.iterdir()) == []
