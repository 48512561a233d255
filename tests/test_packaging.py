"""What pyproject.toml allows, what was measured with, and what is built from it."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import scbert

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NARROWER = {"rdata", "scipy"}  # pyproject.toml says why
OTHER_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}  # on conda-forge


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


def test_environments_have_the_tested_versions():
    versions = constraints()
    for file in (ROOT / "envs").glob("*.yaml"):
        found = re.findall(r"^ +- ([\w-]+) ?==?([\d.]+)", file.read_text(), re.M)
        found = {OTHER_NAMES.get(name, name): version for name, version in found}
        found.pop("python")
        assert found == {name: versions[canonicalize_name(name)] for name in found}, file.name
        assert len(found) > 3


def test_a_version_stands_once_and_the_citation_has_it():
    """The wheel takes that of the package."""
    assert "version" in PROJECT["dynamic"]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert cited[1] == scbert.__version__


def test_type_checkers_are_told_that_the_package_has_types():
    assert (ROOT / "scbert/py.typed").is_file()
