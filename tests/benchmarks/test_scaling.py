"""The tables of docs/scaling.md are what its script computes from the numbers that are kept."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_tables_that_the_numbers_give(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/scaling.py"), "--to", str(tmp_path / "page")]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert (tmp_path / "page").read_text() == (ROOT / "docs/scaling.md").read_text()
