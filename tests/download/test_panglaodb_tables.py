"""PanglaoDB's tables, the choice of its samples, and the steps that fetch from a loopback site."""

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from scbert.config import PanglaoDBAddresses, PanglaoDBSettings, SampleSettings, load_config
from scbert.download.panglaodb import (
    choose_samples,
    read_cell_types,
    read_cluster_sizes,
    read_metadata,
    require_clusters,
)
from scbert.genes.cell_types import read_markers
from scbert.steps.fetch_panglaodb import fetch_panglaodb
from scbert.steps.fetch_panglaodb_clusters import fetch_panglaodb_clusters
from scbert.steps.fetch_panglaodb_tables import fetch_panglaodb_tables
from scbert.steps.select_samples import select_samples
from tests.loopback import PAGE, Site

ROOT = Path(__file__).parents[2]
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
PANGLAODB = CONFIG.corpus.panglaodb
SHARED = Path(os.environ.get("SCBERT_SHARED_DATA", ROOT / "../shared/data")) / "panglaodb"
needs_shared_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"{SHARED} is absent (set SCBERT_SHARED_DATA)"
)
TABLES = {
    "metadata": b'"SRA1","SRS2","Liver","10x chromium","Homo sapiens","","9","8","7","0",\\N,"0"\n',
    "cluster_sizes": b'"SRA1","SRS2","0","90"\n"SRA1","SRS2","1","17"\n',
    "cell_types": b'"SRA1","SRS2","0","T cells","0.001","0.01","29.8"\n',
    "markers": gzip.compress(
        b"species\tofficial gene symbol\tcell type\nHs\tCD3E\tT cells\n", mtime=0
    ),
}
READERS = {
    "metadata": read_metadata,
    "cluster_sizes": read_cluster_sizes,
    "cell_types": read_cell_types,
    "markers": read_markers,
}


@pytest.fixture
def tables(tmp_path):
    paths = {name: tmp_path / f"tables/{name}" for name in TABLES}
    (tmp_path / "tables").mkdir()
    for name, path in paths.items():
        path.write_bytes(TABLES[name])
    return paths


def test_the_tables_are_read_with_their_columns(tables):
    row = read_metadata(tables["metadata"]).iloc[0]
    assert (row["sample"], row.tissue, row.tumour, row.cell_line) == (
        "SRA1_SRS2",
        "Liver",
        "0",
        "0",
    )
    assert pd.isna(row.primary_adult)
    assert read_cluster_sizes(tables["cluster_sizes"]).cells.tolist() == [90, 17]
    cell_types = read_cell_types(tables["cell_types"])
    assert cell_types.cell_type.tolist() == ["T cells"]
    assert cell_types.activity.tolist() == [29.8]
    assert read_markers(tables["markers"]) == {"T cells": ["CD3E"]}


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("metadata", b"", "cannot be read as a table of PanglaoDB"),
        ("metadata", b'"SRA1","SRS2"\n', "has 2 columns, but PanglaoDB's table has 12: sra, srs"),
        ("metadata", TABLES["metadata"].replace(b"SRA1", b"1"), "line 1 starts with 1, SRS2, not"),
        ("metadata", TABLES["metadata"] * 2, "lists SRA1_SRS2 twice"),
        ("cluster_sizes", b'"SRA1","SRS2","0","many"\n', "cells must be numbers .*many"),
        ("cell_types", TABLES["cell_types"].replace(b"29.8", b"x"), "activity must be numbers"),
        (
            "markers",
            b"gene\nCD3E\n",
            "has no column species, official gene symbol, cell type; it has gene",
        ),
        ("markers", TABLES["markers"][:-9], "is not a table of species.*end-of-stream"),
        ("markers", b"", "is not a table of species.*No columns to parse"),
    ],
)
def test_a_table_of_another_form_is_refused(tables, table, content, message):
    tables[table].write_bytes(content)
    with pytest.raises(ValueError, match=message):
        READERS[table](tables[table])


@needs_shared_data
def test_the_real_tables_are_read():
    metadata = read_metadata(SHARED / "metadata.txt")
    sizes = read_cluster_sizes(SHARED / "clusters_to_number_of_cells.txt")
    assert len(metadata) == 1369
    assert (len(sizes), sizes.cells.sum()) == (20_060, 5_296_101)
    assert len(read_cell_types(SHARED / "cell_type_annotations.txt")) == 19_456
    assert len(read_markers(SHARED / "markers.tsv")) > 100


@needs_shared_data
def test_read_metadata_knows_the_unknown():
    r"""\N is unknown, and only that: 'NA' would be a tissue."""
    table = read_metadata(SHARED / "metadata.txt").set_index("sample")
    assert table.tumour["SRA599311_SRS2431649"] == "0"
    assert pd.isna(table.tumour["SRA611700_SRS2532370"])
    assert table.tissue["SRA605557_SRS2493626"] == "Cd14+ monocytes"


def metadata(*rows):
    """SRA, SRS, protocol, species, tumour, cell line, tissue; the rest does not matter."""
    columns = ["sra", "srs", "protocol", "species", "tumour", "cell_line", "tissue"]
    return pd.DataFrame(
        [row if len(row) == 7 else (*row, "Liver") for row in rows], columns=columns
    )


HUMAN_10X = ("10x chromium", "Homo sapiens")
NOTHING = pd.DataFrame({"accession": [], "reason": []}, dtype=str)
SIZES = pd.DataFrame({"sra": ["SRA1", "SRA1"], "srs": ["SRS1", "SRS1"], "cells": [90, 17]})


def reasons(table, exclusions=NOTHING, **changes):
    settings = PANGLAODB.model_copy(update=changes)
    chosen = choose_samples(table, SIZES, exclusions, settings)
    assert ((chosen.included == "yes") == (chosen.reason == "")).all()
    return chosen.reason.tolist()


def test_choose_samples_gives_the_reason_and_the_number_of_cells():
    table = metadata(
        ("SRA1", "SRS1", *HUMAN_10X, "0", "0"),
        ("SRA1", "SRS2", "10x chromium", "Mus musculus", "0", "0"),
        ("SRA3", "SRS3", "Smart-seq2", "Homo sapiens", "0", "0"),
        ("SRA4", "SRS4", *HUMAN_10X, "1", "0"),
        ("SRA5", "SRS5", *HUMAN_10X, "0", "1"),
        ("SRA6", "SRS6", *HUMAN_10X, np.nan, np.nan),
        ("SRA7", "SRS7", "10x chromium", np.nan, "0", "0"),
    )
    before = table.copy()
    protocol = "protocol is not one of those asked for"
    expected = [
        *("", "species is not Homo sapiens", protocol),
        *("tumour", "cell line", "", "species is not Homo sapiens"),
    ]
    assert reasons(table) == expected
    assert choose_samples(table, SIZES, NOTHING, PANGLAODB).cells.tolist() == [107] + 6 * [0]
    pd.testing.assert_frame_equal(table, before)
    everything = {"include_tumour": True, "include_cell_line": True}
    assert reasons(table, **everything)[3:5] == ["", ""]


def test_choose_samples_by_tissue():
    rows = (("SRA1", f"SRS{n}", *HUMAN_10X, "0", "0", tissue)
            for n, tissue in enumerate(("Liver", "Brain", np.nan)))  # fmt: skip
    table = metadata(*rows)
    other, excluded = "tissue is not one of those asked for", "tissue is excluded"
    assert reasons(table) == ["", "", ""]
    assert reasons(table, tissues=("Liver",)) == ["", other, other]
    assert reasons(table, exclude_tissues=("Liver",)) == [excluded, "", ""]
    assert reasons(table, tissues=("Liver",), exclude_tissues=("Liver",)) == [
        excluded,
        other,
        other,
    ]


def test_choose_samples_warns_of_what_no_sample_has(caplog):
    """PanglaoDB writes C1 Fluidigm."""
    table = metadata(("SRA1", "SRS1", *HUMAN_10X, "0", "0"))
    reasons(table, protocols=("10x chromium", "C1"), exclude_tissues=("Lever",))
    assert "no sample has the protocol C1; there are: 10x chromium" in caplog.text
    assert "no sample has the tissue Lever; there are: Liver" in caplog.text
    caplog.clear()
    reasons(table, protocols=("10x chromium",))
    assert caplog.text == ""


def test_choose_samples_excludes_by_study_and_by_sample():
    """Also where nobody wrote why: an accession in the table must not enter."""
    table = metadata(*((f"SRA{n}", f"SRS{n}", *HUMAN_10X, "0", "0") for n in range(4)))
    exclusions = pd.DataFrame(
        {"accession": ["SRA1", "SRS2", "SRA3"], "reason": ["benchmark", "bad", ""]}
    )
    assert reasons(table, exclusions) == ["", "benchmark", "bad", "excluded"]


def choose_real(name):
    """What a configuration chooses from the real tables."""
    overlay = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())["corpus"]
    changes = {key: tuple(value) if isinstance(value, list) else value
               for key, value in overlay.get("panglaodb", {}).items() if key != "urls"}  # fmt: skip
    settings = PANGLAODB.model_copy(update=changes)
    exclusions = pd.read_csv(ROOT / settings.exclusions, sep="\t", dtype=str)
    sizes = read_cluster_sizes(SHARED / "clusters_to_number_of_cells.txt")
    return choose_samples(read_metadata(SHARED / "metadata.txt"), sizes, exclusions, settings)


@needs_shared_data
def test_the_real_table_gives_human_samples_without_the_benchmarks():
    chosen = choose_real("config")
    joined = chosen[chosen.included == "yes"]
    assert len(chosen) == 1369
    assert chosen.cells.sum() == 5_296_101
    assert set(joined.species) == {"Homo sapiens"}
    assert set(joined.protocol) <= set(PANGLAODB.protocols)
    assert not (joined.tumour == "1").any()
    assert not (joined.cell_line == "1").any()
    assert joined["sample"].is_unique
    for study, name in (("SRA716608", "MacParland"), ("SRA550660", "Kang")):
        samples = chosen[chosen.sra == study]
        assert len(samples) == 5
        assert (samples.included == "no").all()
        assert samples.reason.str.contains(name).all()


@needs_shared_data
@pytest.mark.parametrize("name", ["panglaodb", "paper"])
def test_the_full_run_takes_every_human_sample_but_the_benchmarks(name, caplog):
    """305 human samples with 1,070,580 clustered cells, less five of each of two studies."""
    chosen = choose_real(name)
    joined = chosen[chosen.included == "yes"]
    human = chosen[chosen.species == "Homo sapiens"]
    assert (len(human), human.cells.sum()) == (305, 1_070_580)
    assert len(joined) == 295
    assert caplog.text == ""  # every protocol is spelt as PanglaoDB does


@pytest.mark.parametrize("accession", ["SRA1 x", "sra1", "", "GSE96583"])
def test_select_samples_refuses_an_exclusion_that_would_exclude_nothing(tmp_path, accession):
    for name, content in TABLES.items():
        (tmp_path / name).write_bytes(content)
    exclusions = tmp_path / "exclusions.tsv"
    exclusions.write_text(f"accession\treason\n{accession}\ta benchmark\n")
    given = (tmp_path / "metadata", tmp_path / "cluster_sizes", exclusions)
    with pytest.raises(ValueError, match=r"exclusions.tsv has the accession .* are needed"):
        select_samples(*given, tmp_path / "samples.tsv", PANGLAODB)


def test_select_samples_warns_of_an_exclusion_that_no_sample_has(tmp_path, caplog):
    for name, content in TABLES.items():
        (tmp_path / name).write_bytes(content)
    exclusions = tmp_path / "exclusions.tsv"
    exclusions.write_text("accession\treason\n SRA7 \ta benchmark\n")
    given = (tmp_path / "metadata", tmp_path / "cluster_sizes", exclusions)
    select_samples(*given, tmp_path / "samples.tsv", PANGLAODB)
    assert "no sample of PanglaoDB has SRA7" in caplog.text


@needs_shared_data
def test_select_samples_writes_all_samples_or_refuses(tmp_path):
    exclusions, samples = ROOT / PANGLAODB.exclusions, tmp_path / "samples.tsv"
    given = (SHARED / "metadata.txt", SHARED / "clusters_to_number_of_cells.txt", exclusions)
    select_samples(*given, samples, PANGLAODB)
    table = pd.read_csv(samples, sep="\t")
    assert len(table) == 1369
    assert {"sample", "cells", "included", "reason"} <= set(table)
    samples.unlink()
    settings = PANGLAODB.model_copy(update={"species": "Danio rerio"})
    with pytest.raises(
        ValueError, match=r"none of the 1369 samples .*species is not Danio.*Loosen"
    ):
        select_samples(*given, samples, settings)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Site() as site:
        yield site


def from_site(site, tmp_path):
    """Settings in which every address is the site's."""
    urls = {name: (f"{site.url}/{name}",) for name in TABLES}
    urls |= {
        "counts": (site.url + "/data_dl.php?sra={sra}&srs={srs}&filetype=R",),
        "clusters": (site.url + "/{sample}.seurat_clusters.txt",),
    }
    addresses = PanglaoDBAddresses.model_validate(urls)
    how = {"attempts": 2, "wait": 0.0, "checksums": str(tmp_path / "log.tsv"), "drop_in": ""}
    return PanglaoDBSettings(
        panglaodb=PANGLAODB.model_copy(update={"urls": addresses}),
        download=CONFIG.download.model_copy(update=how),
    )


def sample_settings(site, tmp_path, sample):
    settings = from_site(site, tmp_path)
    return SampleSettings(sample=sample, panglaodb=settings.panglaodb, download=settings.download)


def test_fetch_panglaodb_tables_brings_four_tables_that_can_be_read(site, tmp_path):
    site.files = {f"/{name}": content for name, content in TABLES.items()}
    targets = {name: tmp_path / f"resources/panglaodb/{name}" for name in TABLES}
    fetch_panglaodb_tables(**targets, settings=from_site(site, tmp_path))
    for name, target in targets.items():
        assert target.read_bytes() == TABLES[name]
    assert (tmp_path / "log.tsv").read_text().count("panglaodb/") == 4


def test_fetch_panglaodb_tables_refuses_a_table_of_another_form(site, tmp_path):
    site.files = {f"/{name}": content for name, content in TABLES.items()}
    site.files["/cell_types"] = b"404: Not Found"
    targets = {name: tmp_path / f"resources/{name}" for name in TABLES}
    with pytest.raises(
        ValueError, match=r"cell_types could not be downloaded .*has 1 columns, but Panglao"
    ):
        fetch_panglaodb_tables(**targets, settings=from_site(site, tmp_path))
    assert not targets["cell_types"].exists()


@pytest.mark.parametrize(
    ("sample", "asked"),
    [
        ("SRA1_SRS2", "/data_dl.php?sra=SRA1&srs=SRS2&filetype=R"),
        ("SRA1_notused", "/data_dl.php?sra=SRA1&srs=notused&filetype=R"),
    ],
)
def test_fetch_panglaodb_asks_for_the_accessions(site, tmp_path, sample, asked):
    site.files[asked] = gzip.compress(b"RDX3\nX\n" + bytes(1000))
    target = tmp_path / f"{sample}.sparse.RData"
    fetch_panglaodb(target, sample_settings(site, tmp_path, sample))
    assert target.read_bytes() == site.files[asked]
    assert f"panglaodb/{sample}.sparse.RData\t" in (tmp_path / "log.tsv").read_text()


@pytest.mark.parametrize(("sample", "file"), [("SRA1_SRS2", "SRA1_SRS2"), ("SRA1_notused", "SRA1")])
def test_files_of_the_bulk_archive_and_of_the_repository_can_be_dropped(
    site, tmp_path, sample, file
):
    settings = sample_settings(site, tmp_path, sample)
    how = settings.download.model_copy(update={"drop_in": str(tmp_path / "drop_in")})
    settings = settings.model_copy(update={"download": how})
    counts = tmp_path / f"drop_in/var/www/html/SRA/SRA.final/{file}.sparse.RData"
    clusters = tmp_path / f"drop_in/PanglaoDB/data/sample_clusters/{file}.seurat_clusters.txt"
    for path in (counts, clusters):
        path.parent.mkdir(parents=True)
    counts.write_bytes(gzip.compress(b"RDX2\nX\n"))
    clusters.write_text("ACGT 3\n")
    fetch_panglaodb(tmp_path / f"{sample}.sparse.RData", settings)
    fetch_panglaodb_clusters(tmp_path / f"{sample}.clusters.txt", settings)
    assert (tmp_path / f"{sample}.sparse.RData").read_bytes() == counts.read_bytes()
    assert (tmp_path / f"{sample}.clusters.txt").read_text() == "ACGT 3\n"
    assert site.asked == []


def test_fetch_panglaodb_refuses_a_page(site, tmp_path):
    settings = sample_settings(site, tmp_path, "SRA1_SRS2")
    site.files["/data_dl.php?sra=SRA1&srs=SRS2&filetype=R"] = PAGE
    with pytest.raises(
        ValueError, match=r"SRA1_SRS2.sparse.RData could not be downloaded .*a web page"
    ):
        fetch_panglaodb(tmp_path / "SRA1_SRS2.sparse.RData", settings)


@pytest.mark.parametrize(("sample", "file"), [("SRA1_SRS2", "SRA1_SRS2"), ("SRA1_notused", "SRA1")])
def test_fetch_panglaodb_clusters_brings_them_under_the_name_of_the_sample(
    site, tmp_path, sample, file
):
    site.files[f"/{file}.seurat_clusters.txt"] = b"ACGT-1 0\nTTTT 12\n"
    target = tmp_path / f"{sample}.clusters.txt"
    fetch_panglaodb_clusters(target, sample_settings(site, tmp_path, sample))
    assert target.read_text() == "ACGT-1 0\nTTTT 12\n"


def test_fetch_panglaodb_clusters_says_that_none_are_published(site, tmp_path, caplog):
    target = tmp_path / "SRA1_SRS2.clusters.txt"
    fetch_panglaodb_clusters(target, sample_settings(site, tmp_path, "SRA1_SRS2"))
    assert target.read_bytes() == b""
    assert "no clusters are published for SRA1_SRS2" in caplog.text
    assert not (tmp_path / "log.tsv").exists()


@pytest.mark.parametrize(
    ("mood", "body", "message"),
    [
        ("503", b"A 0\n", "503"),
        ("ok", b"ACGT 0\nno cluster here\n", "line 2 is 'no cluster here', not BARCODE CLUSTER"),
        ("page", b"A 0\n", "a web page"),
    ],
)
def test_fetch_panglaodb_clusters_hides_no_other_failure(site, tmp_path, mood, body, message):
    site.files["/SRA1_SRS2.seurat_clusters.txt"], site.mood = body, lambda asked: mood
    target = tmp_path / "SRA1_SRS2.clusters.txt"
    with pytest.raises(ValueError, match=message):
        fetch_panglaodb_clusters(target, sample_settings(site, tmp_path, "SRA1_SRS2"))
    assert not target.exists()


def test_require_clusters_takes_an_empty_list_and_an_empty_line(tmp_path):
    for content in ("", "ACGT 0\n\n"):
        (tmp_path / "some.txt").write_text(content)
        require_clusters(tmp_path / "some.txt")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("https://site.org/{srx}", r"can hold \{sra\}, \{srs\} and \{sample\}, nothing else"),
        ("https://site.org/{0}", "nothing else in braces"),
        ("https://site.org/{sra", "nothing else in braces"),
        ("ftp://site.org/{sra}", "must start with http:// or https://"),
    ],
)
def test_an_address_that_cannot_be_filled_in_is_named(address, message):
    values = PANGLAODB.urls.model_dump() | {"counts": (address,)}
    with pytest.raises(ValueError, match=message):
        PanglaoDBAddresses.model_validate(values)
