"""CONTRIBUTING.md says where things are: of the tree as it is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
ONE_PER_COMMAND = {"steps", "cli", "shipped"}  # their modules are named by the commands and rules


def test_contributing_names_each_module():
    text = TEXT.partition("## Where things are")[2].partition("| To change")[0]
    for path in sorted((ROOT / "scbert").glob("*/*.py")):
        folder, name = path.parent.name, path.stem
        figures = name.endswith("_figures")  # named together
        if name != "__init__" and folder not in ONE_PER_COMMAND and not figures:
            (listed,) = re.findall(
                rf"^- \*\*{folder}/.*?(?=^- |^$)", text, re.DOTALL | re.MULTILINE
            )
            assert re.search(rf"\b{name}\b", listed), f"{folder}/{name}.py"


def test_contributing_leads_to_files_that_exist():
    rows = re.findall(r"^\| (?:an?|the) (.*?) \| (.*) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 18
    for _, where in rows:
        for path in re.findall(r"(?:scbert|rules|config|profiles|report)/[\w./]*\w", where):
            assert (ROOT / path).exists(), path
        for path, name in re.findall(r"(\S+\.py): `(\w+)`", where):
            if "/" in path:
                assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), (path, name)
