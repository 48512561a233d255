"""The workflow as a module of another one: from a folder and from git, with and without conda."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow_run import PARTS, REPOSITORY, snakemake

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(not shutil.which("git"), reason="git is not installed"),
]
MODULE = """
configfile: "mine.yaml"


rule all:
    input:
        "resources/pbmc68k_reduced.h5ad",
        "results/config.json",
        "mine.txt",


module scbert:
    snakefile:
        {where}
    config:
        config["scbert"]


use rule * from scbert as scbert_*


rule mine:
    output:
        "mine.txt",
    shell:
        "printenv PYTHONPATH > {{output}} || echo nothing > {{output}}"
"""
CONDA = """#!/bin/sh
case "$1 $2" in
"--version ") echo conda 24.11.0 ;;
"info --json") echo '{{"conda_prefix": "{prefix}", "platform": "linux-64"}}' ;;
"config --get") echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
"env create")
  while [ "$1" != --file ]; do shift; done; file=$2
  while [ "$1" != --prefix ]; do shift; done
  mkdir -p "$2/bin"; cp "$file" "$2/made_of.yaml"
  printf '#!/bin/sh\\nIN_CONDA="%s" exec {python} "$@"\\n' "$2" > "$2/bin/python"
  chmod +x "$2/bin/python" ;;
esac
"""


class Module:
    """An empty folder with a Snakefile that uses the workflow as a module."""

    def __init__(self, folder):
        self.here = folder / "here"
        self.here.mkdir()
        python = Path(sys.executable)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SCBERT")},
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        self.environment.pop("PYTHONPATH", None)

    def write(self, where):
        (self.here / "Snakefile").write_text(MODULE.format(where=where))
        (self.here / "mine.yaml").write_text("scbert:\n  finetune:\n    seeds: [7]\n")

    def snakemake(self, *arguments):
        said = self.here.with_name("said.txt")
        done = snakemake(["--cores", "1", *arguments], self.environment, self.here, said)
        assert done.returncode == 0, done.said
        return done.said

    def planned(self, *arguments):
        said = self.snakemake("--dry-run", *arguments).split("Job stats:")[-1]
        return {rule: int(number) for rule, number in re.findall(r"^(\w+) +(\d+)$", said, re.M)}

    def written(self, path):
        return (self.here / path).read_text()


@pytest.fixture
def module(tmp_path):
    return Module(tmp_path)


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", folder, *who, *words], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository of this workflow, with a tag."""
    folder = tmp_path_factory.mktemp("origin") / "repository"
    folder.mkdir()
    for part in PARTS:
        if part != "tests":
            copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy
            copy(REPOSITORY / part, folder / part)
    git(folder, "init", "--quiet")
    (folder / ".gitignore").write_text("__pycache__\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "all")
    git(folder, "tag", "v1")
    return folder


@pytest.fixture
def address(module, repository):
    """An address at GitHub, which git is told to fetch from the repository of this test."""
    module.environment |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/someone/scbert",
    }
    return "someone/scbert"


def test_from_a_folder(module, repository):
    module.write(f'"{repository}/Snakefile"')
    module.snakemake()
    assert (module.here / "resources/pbmc68k_reduced.h5ad").is_file()
    config = json.loads(module.written("results/config.json"))
    assert config["finetune"]["seeds"] == [7]
    assert config["finetune"]["hidden"]  # what mine.yaml does not say is as shipped
    assert module.written("mine.txt") == "nothing\n"  # its own rules are left alone


def test_from_a_git_address(module, repository, address):
    """The code is unpacked once, beside what Snakemake keeps of the run."""
    commit = git(repository, "rev-parse", "HEAD")
    module.write(f'github("{address}", path="workflow/Snakefile", commit="{commit}")')
    module.snakemake("resources/pbmc68k_reduced.h5ad")
    (unpacked,) = (module.here / ".snakemake/scbert").iterdir()
    assert unpacked.name == commit
    assert (unpacked / "scbert/__init__.py").is_file()
    plan = module.planned("results/report.html")
    assert plan["scbert_pretrain"] == plan["scbert_finetune_training_cells"] == 1
    assert "scbert_fetch_dataset" not in plan or plan["scbert_fetch_dataset"] < 3


def test_from_a_git_address_with_conda(module, address, tmp_path):
    """conda is a stand-in that gives each environment this Python: what is tested is that the files
    of environments are found, and that the programs of rules find the package there."""
    conda = tmp_path / "conda"
    (conda / "bin").mkdir(parents=True)
    program = conda / "bin/conda"
    program.write_text(CONDA.format(prefix=conda, python=sys.executable))
    program.chmod(0o755)
    (conda / "bin/activate").write_text('export PATH="$1/bin:$PATH"\n')
    module.environment["PATH"] = f"{conda / 'bin'}{os.pathsep}{module.environment['PATH']}"
    module.write(f'github("{address}", path="workflow/Snakefile", tag="v1")')
    module.snakemake("--sdm", "conda", "--", "resources/pbmc68k_reduced.h5ad")
    (made,) = module.here.glob(".snakemake/conda/*_/made_of.yaml")
    gpu = ("--set-resources", "scbert_pretrain:gpu=1")
    said = module.snakemake("results/pretrained", "--dry-run", "--sdm", "conda", *gpu)
    assert "torch_gpu.yaml" in said
    assert "torch.yaml" not in said
    assert made.read_text().strip() == (REPOSITORY / "envs/data.yaml").read_text().strip()


def test_resources_of_a_profile_name_the_rules_as_the_module_does(module, repository):
    module.write(f'"{repository}/Snakefile"')
    said = module.snakemake(
        *("--dry-run", "--printshellcmds", "results/pretrained"),
        *("--set-resources", "scbert_pretrain:gpu=2", "mine:mem_mb=7"),
    )
    assert "mem_mb=20000" in said  # of two GPUs
    assert "no rule has that name" not in said
