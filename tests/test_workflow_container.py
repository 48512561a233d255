"""`--sdm apptainer` with a stand-in that runs the commands here and keeps what it was told."""

import os
import re

import pytest

from tests.workflow_run import REPOSITORY

pytestmark = pytest.mark.workflow
APPTAINER = """#!/bin/bash
if [ "$1" = --version ]; then echo apptainer version 1.4.2; exit; fi
echo "$@" >> {told}
exec bash -c "${{@: -1}}"
"""


@pytest.fixture
def apptainer(tmp_path, monkeypatch):
    """A program of that name, and the file to which it writes what it was told."""
    program, told = tmp_path / "programs/apptainer", tmp_path / "told"
    program.parent.mkdir()
    program.write_text(APPTAINER.format(told=told))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("SCBERT_IMAGE", raising=False)
    return told


def test_every_rule_runs_in_the_image_and_sees_the_package(fresh, apptainer, monkeypatch):
    image = fresh.here / "scbert.sif"
    image.touch()
    monkeypatch.setenv("SCBERT_IMAGE", str(image))
    wanted = ("resources/pbmc68k_reduced.h5ad", "results/config.json")
    how = ("--sdm", "apptainer", "--apptainer-args", " --nv")
    done = fresh.snakemake(*wanted, *how, "--cores", "1")  # two at a time mix their words in `told`
    assert done.returncode == 0, done.said
    told = apptainer.read_text().splitlines()
    assert len(told) == 2
    for words in told:
        assert f"--nv --bind {fresh.repository}" in words
        assert str(image) in words
    assert (fresh.here / "resources/pbmc68k_reduced.h5ad").is_file()


@pytest.mark.parametrize(
    ("given", "message"),
    [(("apptainer",), "SCBERT_IMAGE is not set"), (("apptainer", "conda"), "not both")],
)
def test_what_cannot_work_is_refused_at_the_start(fresh, apptainer, given, message):
    done = fresh.snakemake("--dry-run", "--sdm", *given)
    assert done.returncode
    assert message in done.said


def test_the_image_holds_what_the_package_is_made_of():
    """What the Dockerfile copies exists and is not left out, and Python is that of envs/."""
    text = (REPOSITORY / "Dockerfile").read_text()
    copied = [
        path for words in re.findall(r"^COPY (.*) \S+$", text, re.M) for path in words.split()
    ]
    kept = [
        line[1:]
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line[0] == "!"
    ]
    assert sorted(copied) == sorted(kept)
    assert all((REPOSITORY / path).exists() for path in kept)
    assert "python =3.11\n" in (REPOSITORY / "envs/torch.yaml").read_text()
    assert re.findall(r"^FROM (\S+)", text, re.M) == ["python:3.11-slim-bookworm", "base", "base"]
