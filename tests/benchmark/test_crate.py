import json

import pytest

from scbert.files import write_json
from scbert.steps.pack_benchmark_crate import pack_benchmark_crate


@pytest.fixture
def crate(tmp_path, monkeypatch):
    monkeypatch.setenv("SCBERT_COMMIT", "abc123")
    workflow = tmp_path / "repository"
    (workflow / "rules").mkdir(parents=True)
    for name in ("Snakefile", "rules/some.smk"):
        (workflow / name).write_text("# rules\n")
    page = tmp_path / "benchmark.html"
    page.write_text("<html></html>")
    write_json(tmp_path / "toy.json", {"source": "toy.h5ad", "sha256": "a" * 64})
    write_json(tmp_path / "config.json", {})
    pack_benchmark_crate(
        results=[page],
        scores=[],
        qualities=[tmp_path / "toy.json"],
        methods=["oracle"],
        config=tmp_path / "config.json",
        workflow=workflow,
        workflow_files=[workflow / "rules/some.smk"],
        snakemake="9.27.0",
        crate=tmp_path / "crate",
    )
    return tmp_path / "crate"


def entities(crate):
    content = json.loads((crate / "ro-crate-metadata.json").read_text())
    return {entity["@id"]: entity for entity in content["@graph"]}


def test_a_crate_says_what_ran_on_what_and_what_came_out(crate):
    found = entities(crate)
    action = found["#run"]
    assert action["@type"] == "CreateAction"
    assert action["instrument"] == {"@id": "workflow/Snakefile"}
    used = {entity["@id"] for entity in action["object"]}
    assert used == {"config.json", f"urn:sha256:{'a' * 64}#toy"}
    made = {entity["@id"] for entity in action["result"]}
    assert made == {"benchmark.html", "labels.tsv.gz"}
    assert found["workflow/Snakefile"]["version"] == "abc123"
    assert any(one.startswith("https://pypi.org/project/numpy/") for one in found)


def test_every_file_of_a_crate_is_there(crate):
    for name, entity in entities(crate).items():
        if "File" in entity["@type"] and not name.startswith("urn:"):
            assert (crate / name).is_file(), name


def test_a_crate_names_the_profiles_it_follows(crate):
    root = entities(crate)["./"]
    addresses = {one["@id"] for one in root["conformsTo"]}
    assert "https://w3id.org/ro/wfrun/workflow/0.5" in addresses
    assert root["mentions"] in ({"@id": "#run"}, [{"@id": "#run"}])
