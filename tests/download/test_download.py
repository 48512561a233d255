"""Downloads from a site on loopback that breaks off, is busy, sends pages, or changes its files."""

import gzip
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from scipy import sparse

from scbert.config import Download, load_config
from scbert.download.download import NotPublished, download
from scbert.download.http import CHUNK
from scbert.download.panglaodb import require_rdata
from scbert.download.verify import record_sha256, recorded_sha256
from scbert.files import sha256_of
from tests.loopback import PAGE, Site, fails_often, wait_for_part
from tests.panglaodb_samples import write_sample

ROOT = Path(__file__).parents[2]
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
SHARED = Path(os.environ.get("SCBERT_SHARED_DATA", ROOT / "../shared/data")) / "panglaodb/rdata"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site():
    with Site() as site:
        yield site


@pytest.fixture
def settings(tmp_path):
    return CONFIG.download.model_copy(
        update={
            "attempts": 100,
            "wait": 0.0,
            "max_wait": 0.0,
            "timeout": 5.0,
            "drop_in": str(tmp_path / "drop_in"),
            "checksums": str(tmp_path / "checksums.tsv"),
        }
    )


def changed(settings, **values):
    return Download.model_validate(settings.model_dump() | values)


def compressed(seed, size=300_000):
    return gzip.compress(np.random.default_rng(seed).bytes(size), compresslevel=1)


def fetch(site, path, target, settings, **more):
    url = site.url + path
    download([url], target, settings, **{"name": target.name} | more)


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_download_brings_the_file_and_records_what_came(site, settings, tmp_path):
    site.files["/get?sra=1"] = body = compressed(0)
    target = tmp_path / "new/cells.RData"
    fetch(site, "/get?sra=1", target, settings, name="panglaodb/cells.RData")
    assert target.read_bytes() == body
    assert visible(target.parent) == ["cells.RData"]
    assert list((target.parent / ".unfinished").iterdir()) == []
    [asked] = site.asked
    assert (asked.method, asked.range, asked.agent) == ("GET", None, settings.user_agent)
    assert settings.user_agent.startswith("Mozilla/5.0")
    header, line = Path(settings.checksums).read_text().splitlines()
    assert header.split("\t") == ["name", "sha256", "bytes", "date", "url"]
    name, sha256, size, date, url = line.split("\t")
    assert (name, sha256, int(size)) == ("panglaodb/cells.RData", sha256_of(target), len(body))
    assert url == site.url + "/get?sra=1"
    assert date.endswith("Z")


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("etag", [True, False])
def test_every_file_comes_whole_from_a_site_that_fails_four_times_of_five(
    site, settings, tmp_path, ranges, etag
):
    """Synthetic PanglaoDB samples. With ranges no byte comes twice."""
    rng = np.random.default_rng(0)
    bodies = {}
    for number in range(10):
        counts = sparse.csc_matrix(rng.poisson(0.3, (300, 80)).astype(float))
        rows = [f"GENE{gene}_ENSG{gene:011d}.1" for gene in range(300)]
        path = tmp_path / "sample.RData"
        write_sample(path, counts, rows, [f"CELL{cell}" for cell in range(80)])
        bodies[f"/get?srs={number}"] = path.read_bytes()
    site.files, site.ranges, site.mood = bodies, ranges, fails_often(seed=1)
    site.etags = {path: f'"{path}"' for path in bodies} if etag else {}
    targets = {path: tmp_path / f"resources/{n}.RData" for n, path in enumerate(bodies)}
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(lambda path: fetch(site, path, targets[path], settings, check=require_rdata),
                     bodies)
        )  # fmt: skip
    for path, body in bodies.items():
        assert targets[path].read_bytes() == body
    assert {asked.method for asked in site.asked} == {"GET"}
    assert len(site.asked) > 2 * len(bodies)
    sent = sum(asked.sent for asked in site.asked)
    assert (sent == sum(map(len, bodies.values()))) == ranges
    n_asked = len(site.asked)
    for path, target in targets.items():
        fetch(site, path, target, settings, check=require_rdata)
    assert len(site.asked) == n_asked  # what is here is not asked for again


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent (set SCBERT_SHARED_DATA)")
def test_real_samples_come_whole(site, settings, tmp_path):
    for path in SHARED.iterdir():
        site.files[f"/{path.name}"] = path.read_bytes()
    site.mood = fails_often(seed=2)
    for path in SHARED.iterdir():
        target = tmp_path / "resources" / path.name
        fetch(site, f"/{path.name}", target, settings, check=require_rdata)
        assert target.read_bytes() == path.read_bytes()


KILLED = """
import sys
from pathlib import Path
from scbert.download.download import download
from scbert.config import Download
url, target, settings = sys.argv[1:]
settings = Download.model_validate_json(settings)
download([url], Path(target), settings, name="cells")
"""


@pytest.mark.parametrize("ranges", [True, False])
def test_a_killed_download_goes_on_where_it_stopped(site, settings, tmp_path, ranges):
    site.files["/cells"] = body = compressed(3, 2_000_000)
    site.ranges = ranges
    site.mood = lambda asked: "stall" if len(site.asked) == 1 else "ok"
    target = tmp_path / "resources/cells.RData"
    command = [sys.executable, "-c", KILLED, f"{site.url}/cells", str(target)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, settings.model_dump_json()], env=environment)
    try:
        assert site.stalled.wait(60)
        held = wait_for_part(target, len(body) // 2 - CHUNK)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not target.exists()
    subprocess.run([*command, settings.model_dump_json()], env=environment, check=True)
    assert target.read_bytes() == body
    assert [asked.range for asked in site.asked] == [None, f"bytes={held}-"]
    assert site.asked[1].sent == (len(body) - held if ranges else len(body))
    subprocess.run([*command, settings.model_dump_json()], env=environment, check=True)
    assert len(site.asked) == 2
    assert visible(target.parent) == ["cells.RData"]


def test_a_file_that_changed_meanwhile_is_begun_anew(site, settings, tmp_path):
    """If-Range makes the site send all of it."""
    old, new = compressed(4), compressed(5)
    site.files["/cells"], site.etags["/cells"] = old, '"old"'
    site.mood = lambda asked: "cut"
    target = tmp_path / "cells.RData"
    with pytest.raises(ValueError, match="broke off after"):
        fetch(site, "/cells", target, changed(settings, attempts=1))
    site.files["/cells"], site.etags["/cells"] = new, '"new"'
    site.mood = lambda asked: "ok"
    fetch(site, "/cells", target, settings)
    assert target.read_bytes() == new
    assert site.asked[-1].range == f"bytes={len(old) // 2}-"
    assert site.asked[-1].sent == len(new)


@pytest.mark.parametrize("longer", [0, 10_000])
def test_two_versions_of_a_file_are_never_joined(site, settings, tmp_path, longer):
    """A site without ETag goes on in the other version; the length or the stream's CRC tells."""
    old, new = compressed(6), compressed(7, 300_000 + longer)
    assert (len(old) == len(new)) == (not longer)
    site.files["/cells"] = old
    site.mood = lambda asked: "cut"
    target = tmp_path / "cells.RData"
    with pytest.raises(ValueError, match="broke off after"):
        fetch(site, "/cells", target, changed(settings, attempts=1))
    site.files["/cells"], site.mood = new, lambda asked: "ok"
    fetch(site, "/cells", target, settings)
    assert target.read_bytes() == new
    assert [asked.range for asked in site.asked] == [None, f"bytes={len(old) // 2}-", None]


def test_what_cannot_be_verified_is_not_joined(site, settings, tmp_path):
    """No ETag, no checksum, no compressed stream: a text is asked for from its start."""
    site.files["/table"] = body = b"gene,symbol\n" * 10_000
    site.mood = lambda asked: "cut" if len(site.asked) == 1 else "ok"
    fetch(site, "/table", tmp_path / "table.csv", settings)
    assert (tmp_path / "table.csv").read_bytes() == body
    assert [asked.range for asked in site.asked] == [None, None]


@pytest.mark.parametrize("body", [compressed(8), b"gene,symbol\n" * 1000])
def test_what_was_killed_after_the_last_byte_is_not_asked_for_again(site, settings, tmp_path, body):
    site.files["/cells"] = body
    target = tmp_path / "cells.RData"

    def killed(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(site, "/cells", target, settings, check=killed)
    assert not target.exists()
    fetch(site, "/cells", target, settings)
    assert target.read_bytes() == body
    assert len(site.asked) == 1


@pytest.mark.parametrize("cut", [1, 9, 100_000])
def test_a_truncated_stream_is_refused_though_the_site_gives_no_length(
    site, settings, tmp_path, cut
):
    site.length = False
    site.files["/cells"] = compressed(9)[:-cut]
    target = tmp_path / "cells.RData"
    target.write_bytes(b"old")
    with pytest.raises(ValueError, match=r"truncated or damaged \(.*under the name cells.RData"):
        fetch(site, "/cells", target, changed(settings, attempts=2))
    assert target.read_bytes() == b"old"
    assert visible(tmp_path) == ["cells.RData"]  # and nothing is recorded
    assert len(site.asked) == 2
    site.files["/cells"] = whole = compressed(9)
    fetch(site, "/cells", target, settings)
    assert target.read_bytes() == whole


def test_a_truncated_hdf5_file_is_refused(site, settings, tmp_path):
    with h5py.File(tmp_path / "made.h5", "w") as file:
        file["X"] = np.arange(10_000)
    body = (tmp_path / "made.h5").read_bytes()
    site.length, site.files = False, {"/cut": body[:-1000], "/whole": body}
    once = changed(settings, attempts=1)
    with pytest.raises(ValueError, match=r"truncated or damaged \(.*truncated"):
        fetch(site, "/cut", tmp_path / "cells.h5ad", once)
    fetch(site, "/whole", tmp_path / "cells.h5ad", once)
    assert (tmp_path / "cells.h5ad").read_bytes() == body


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (PAGE, {}, r"the site sent a web page instead of a file \(it starts with b'<html>"),
        (b" \n<!DOCTYPE html>", {}, "a web page instead"),
        (
            b"Too many connections",
            {"Content-Type": "text/html; charset=UTF-8"},
            "a web page instead",
        ),
        (b"", {}, r"the file is empty \(0 bytes\)"),
        (b"\x1f\x8b garbage", {}, "truncated or damaged"),
        (
            gzip.compress(b"X" * 100, mtime=0),
            {},
            r"not an R file \(its content starts with b'XXXXX'",
        ),
        (b"RPKM", {}, r"not an R file \(its content starts with b'RPKM'"),
    ],
)
def test_what_is_no_r_file_is_refused(site, settings, tmp_path, body, headers, message):
    site.files["/cells"], site.headers = body, headers
    target = tmp_path / "cells.RData"
    once = changed(settings, attempts=1)
    with pytest.raises(ValueError, match=message) as error:
        fetch(site, "/cells", target, once, check=require_rdata)
    assert f"put it into {settings.drop_in} under the name cells.RData" in str(error.value)
    assert f"{site.url}/cells: " in str(error.value)
    assert visible(tmp_path) == []
    assert list((tmp_path / ".unfinished").glob("*.part")) == []


def test_a_file_that_the_site_calls_a_page_is_taken(site, settings, tmp_path):
    """PHP says text/html of everything unless it is told what it sends."""
    site.files["/cells"], site.headers = compressed(10), {"Content-Type": "text/html"}
    fetch(site, "/cells", tmp_path / "cells.RData", settings)
    assert (tmp_path / "cells.RData").read_bytes() == site.files["/cells"]


def test_a_file_encoded_on_the_way_is_kept_as_it_lies_there(site, settings, tmp_path):
    """Apache says Content-Encoding of every .gz; undone, the file would be another."""
    site.files["/m.tsv.gz"], site.headers = compressed(11), {"Content-Encoding": "x-gzip"}
    fetch(site, "/m.tsv.gz", tmp_path / "m.tsv.gz", settings)
    assert (tmp_path / "m.tsv.gz").read_bytes() == site.files["/m.tsv.gz"]


def test_a_file_that_unfolds_into_too_much_is_refused(site, settings, tmp_path):
    site.files["/bomb"] = bomb = gzip.compress(bytes(5_000_000))
    assert len(bomb) < 10_000
    small = changed(settings, max_gb=0.001, attempts=1)
    with pytest.raises(ValueError, match=r"more than 0.001 GB \(download.max_gb\)"):
        fetch(site, "/bomb", tmp_path / "cells.RData", small)
    site.files["/long"] = os.urandom(1_100_000)
    many = changed(settings, max_gb=0.001)
    with pytest.raises(ValueError, match=r"is 1100000 bytes, more than download.max_gb \(0.001"):
        fetch(site, "/long", tmp_path / "cells.RData", many)
    site.length = False
    with pytest.raises(ValueError, match=r"sends more than download.max_gb \(0.001 GB\)"):
        fetch(site, "/long", tmp_path / "cells.RData", many)
    assert len(site.asked) == 3  # never tried again


def test_a_site_that_sends_something_else_later_is_found_out(site, settings, tmp_path):
    site.files["/cells"] = first = compressed(12)
    target = tmp_path / "cells.RData"
    fetch(site, "/cells", target, settings)
    target.unlink()
    site.files["/cells"] = second = compressed(13)
    message = r"checksums.tsv recorded [0-9a-f]{64} when cells.RData was first downloaded: the site"
    with pytest.raises(ValueError, match=message) as error:
        fetch(site, "/cells", target, settings)
    assert "delete that line" in str(error.value)
    assert len(site.asked) == 2  # another attempt would bring the same
    assert not target.exists()
    target.write_bytes(second)  # damaged or exchanged here: the site is asked
    site.files["/cells"] = first
    fetch(site, "/cells", target, settings)
    assert target.read_bytes() == first


def test_the_sha256_of_the_user_wins(site, settings, tmp_path):
    site.files["/cells"] = body = compressed(14)
    target, log_file = tmp_path / "cells.RData", Path(settings.checksums)
    record_sha256(log_file, "cells.RData", "0" * 64, 1, "elsewhere")
    with pytest.raises(ValueError, match=r"but the configuration expects 1{64}"):
        fetch(site, "/cells", target, settings, sha256="1" * 64)
    assert recorded_sha256(log_file, "cells.RData") == "0" * 64
    (tmp_path / "x").write_bytes(body)
    fetch(site, "/cells", target, settings, sha256=sha256_of(tmp_path / "x").upper())
    assert target.read_bytes() == body
    assert recorded_sha256(log_file, "cells.RData") == sha256_of(target)


def test_mirrors_are_tried_in_order(site, settings, tmp_path):
    site.files["/second"] = compressed(15)
    site.mood = lambda asked: "503" if asked.path == "/busy" else "ok"
    urls = [site.url + path for path in ("/none", "/busy", "/second", "/third")]
    target = tmp_path / "cells.RData"
    download(urls, target, settings, name="cells")
    assert [asked.path for asked in site.asked] == ["/none", "/busy", "/second"]
    assert target.read_bytes() == site.files["/second"]


def test_a_mirror_that_refuses_is_not_asked_again(site, settings, tmp_path):
    site.mood = lambda asked: "503" if asked.path == "/busy" else "ok"
    urls = [site.url + path for path in ("/none", "/busy")]
    few = changed(settings, attempts=3)
    with pytest.raises(
        ValueError, match=r"could not be downloaded \(tried 3 times; .*404.*503"
    ) as error:
        download(urls, tmp_path / "cells.RData", few, name="cells")
    assert not isinstance(error.value, NotPublished)
    assert [asked.path for asked in site.asked] == ["/none", "/busy", "/busy", "/busy"]


def test_a_file_that_no_mirror_has_is_not_published(site, settings, tmp_path):
    urls = [site.url + path for path in ("/none", "/nothing")]
    with pytest.raises(NotPublished, match=r"tried 1 times; .*404 Not Found; .*404 Not Found"):
        download(urls, tmp_path / "cells.RData", settings, name="cells")
    assert len(site.asked) == 2


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/cells", "file:///etc/passwd", "no address"])
def test_only_the_web_is_asked(settings, tmp_path, url):
    with pytest.raises(ValueError, match="is not an address"):
        download([url], tmp_path / "cells.RData", settings, name="cells")


def test_a_site_that_does_not_answer_is_named(settings, tmp_path):
    with Site() as gone:
        url = gone.url + "/cells"
    with pytest.raises(ValueError, match=r"tried 2 times; .*/cells: broke off after 0 bytes"):
        download([url], tmp_path / "cells", changed(settings, attempts=2), name="cells")


def test_pauses_grow_and_follow_the_site(site, settings, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr("tenacity.nap.time.sleep", pauses.append)
    site.mood = lambda asked: "503"
    patient = changed(settings, attempts=6, wait=1.0, max_wait=10.0)
    with pytest.raises(ValueError, match="tried 6 times"):
        fetch(site, "/cells", tmp_path / "cells", patient)
    lowest, highest = [1, 2, 4, 8, 10], [2, 3, 5, 9, 10]
    assert all(low <= pause <= high for low, pause, high in zip(lowest, pauses, highest, strict=1))
    assert pauses != lowest  # jitter: four jobs do not come back at once
    pauses.clear()
    site.busy_headers = {"Retry-After": "7"}
    with pytest.raises(ValueError, match="tried 2 times"):
        fetch(site, "/cells", tmp_path / "cells", changed(patient, attempts=2))
    assert pauses == [7.0]
    pauses.clear()
    site.busy_headers = {"Retry-After": "86400"}
    with pytest.raises(ValueError, match="tried 2 times"):
        fetch(site, "/cells", tmp_path / "cells", changed(patient, attempts=2))
    assert pauses == [10.0]  # max_wait


@pytest.mark.parametrize("inside", ["", "var/www/html/SRA/SRA.final/"])
@pytest.mark.parametrize("dropped", ["SRA1_notused.sparse.RData", "SRA1.sparse.RData"])
def test_a_dropped_file_is_checked_and_copied(site, settings, tmp_path, inside, dropped):
    file = Path(settings.drop_in) / inside / dropped
    file.parent.mkdir(parents=True)
    file.write_bytes(compressed(16))
    target = tmp_path / "resources/SRA1_notused.sparse.RData"
    more = {"dropped_as": ["SRA1.sparse.RData"]}
    fetch(site, "/cells", target, settings, **more)
    assert target.read_bytes() == file.read_bytes()
    assert site.asked == []
    assert recorded_sha256(Path(settings.checksums), target.name) == sha256_of(file)
    file.write_bytes(compressed(17))
    target.unlink()
    with pytest.raises(ValueError, match=rf"{dropped} cannot be used for .*recorded.*Replace it"):
        fetch(site, "/cells", target, settings, **more)


def test_a_damaged_dropped_file_is_named_and_the_site_not_asked(site, settings, tmp_path):
    file = Path(settings.drop_in) / "cells.RData"
    file.parent.mkdir()
    file.write_bytes(compressed(18)[:-9])
    site.files["/cells"] = compressed(18)
    with pytest.raises(
        ValueError, match=r"cells.RData cannot be used .*truncated.*or remove it to"
    ):
        fetch(site, "/cells", tmp_path / "cells.RData", settings)
    assert site.asked == []
    assert not (tmp_path / "cells.RData").exists()


def test_jobs_that_run_at_once_lose_no_line_of_the_log(tmp_path):
    log_file = tmp_path / "checksums.tsv"
    code = (
        "import sys; from pathlib import Path; from scbert.download.verify import record_sha256\n"
        "for n in range(20):\n"
        "    record_sha256(Path(sys.argv[1]), f'{sys.argv[2]}-{n}', 'f' * 64, n, '')"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    jobs = [
        subprocess.Popen([sys.executable, "-c", code, log_file, str(job)], env=environment)
        for job in range(3)
    ]
    assert [job.wait() for job in jobs] == [0, 0, 0]
    lines = log_file.read_text().splitlines()
    assert len(lines) == 1 + 60
    assert all(line.count("\t") == 4 for line in lines)


def test_a_log_of_another_form_is_named(settings, site, tmp_path):
    Path(settings.checksums).write_text("file\tmd5\n")
    site.files["/cells"] = compressed(19)
    with pytest.raises(ValueError, match=r"checksums.tsv has the columns .*Restore it, or delete"):
        fetch(site, "/cells", tmp_path / "cells.RData", settings)
