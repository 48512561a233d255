"""PanglaoDB's files as they are, its table, and a server on loopback in place of its site."""

import gc
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from scbert.cells.panglaodb import choose_samples, read_metadata
from scbert.cells.r_files import read_rdata
from scbert.config import SampleSettings, load_config
from scbert.steps.panglaodb import fetch_panglaodb, fetch_panglaodb_tables, select_samples

ROOT = Path(__file__).parents[1]
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
PANGLAODB = CONFIG.corpus.panglaodb
SHARED = Path(os.environ.get("SCBERT_SHARED_DATA", ROOT / "../shared/data")) / "panglaodb"
needs_shared_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"{SHARED} is absent (set SCBERT_SHARED_DATA)"
)


def rdata_file(sample):
    return SHARED / f"rdata/{sample}.sparse.RData"


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
    assert read_rdata(target, max_gb=1).obs_names[0].startswith("SRA1_SRS2_")


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
