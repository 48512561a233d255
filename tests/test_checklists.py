"""Every file that docs/checklists.md, SUPPORT.md and the catalogue's pages name exists."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["docs/checklists.md", "SUPPORT.md", "config/README.md"])
def test_files_of_a_page_exist(page):
    file = ROOT / page
    named = re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text())
    missing = [path for path in named if not (file.parent / path).exists()]
    assert not missing
    assert named


def test_no_row_of_a_checklist_is_left_without_an_answer():
    rows = re.findall(r"^\| (.+?) \| (.*) \|$", (ROOT / "docs/checklists.md").read_text(), re.M)
    answers = [answer for row, answer in rows if row != "row"]
    assert len(answers) > 40
    for answer in answers:
        assert "](" in answer or "open" in answer or "not used" in answer, answer


def test_what_github_runs_exists():
    jobs = yaml.safe_load((ROOT / ".github/workflows/main.yml").read_text())["jobs"]
    run = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    targets = set(re.findall(r"^([\w/.$()-]+):", (ROOT / "Makefile").read_text(), re.M))
    asked = {name.replace(".venv", "$(VENV)") for name in re.findall(r"^make (\S+)", run, re.M)}
    assert {"check", "test", "docs", "package", "test-slurm"} <= asked <= targets
