"""Runs the commands of each page in order, in a copy of the repository: `make test-docs`.

It is no part of `make test`, which has no time for it.
"""

import doctest
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
from importlib.util import find_spec
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from tests.docs.pages import HISTORY, ROOT, RUN, blocks, pages

AS_WRITTEN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PLAN = 'snakemake() { command snakemake --dry-run --quiet "$@"; }'
NO_PLAN = "unset -f snakemake || true"


def to_run(page):
    """Blocks of a page that are run; others say why they are not."""
    return [
        block
        for block in blocks(page)
        if block.language in RUN and block.tag not in ("not run", "run by")
    ]


PAGES = [page for page in pages() if to_run(page) and not page.startswith(HISTORY)]


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The files that pages call QUERY.h5ad, REFERENCE.h5ad and TEST.h5ad: real cells of blood."""
    folder = tmp_path_factory.mktemp("files")
    scanpy = Path(find_spec("scanpy").submodule_search_locations[0])
    with warnings.catch_warnings(action="ignore"):  # scanpy's file is in an old format
        cells = ad.read_h5ad(scanpy / "datasets/10x_pbmc68k_reduced.h5ad")
    cells.obs["CELL_TYPE"] = cells.obs["bulk_labels"].astype(str)
    cells.obs["DONOR"] = np.array(["donor1", "donor2", "donor3"])[np.arange(cells.n_obs) % 3]
    cells[:400].copy().write_h5ad(folder / "REFERENCE.h5ad")
    cells[400:].copy().write_h5ad(folder / "TEST.h5ad")
    cells[400:].copy().write_h5ad(folder / "QUERY.h5ad")
    return folder


@pytest.fixture
def copy(tmp_path, files):
    """A copy of the repository, as someone who has just downloaded it."""
    folder = tmp_path / "scBERT-end-to-end"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in found.strip("\0").split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copytree(files, folder, dirs_exist_ok=True)
    return folder


def script_of(page, said):
    """Return a bash script that runs the blocks, each one's output in a file of its own."""
    lines = ["set -euo pipefail"]
    for block in to_run(page):
        text = block.text
        if block.language == "python":
            text = f"python - <<'END OF BLOCK'\n{text}\nEND OF BLOCK"
        lines += [PLAN if block.tag == "plan" else NO_PLAN]
        lines += [f"echo '== {block.place}' >&2", "{", text, f"}} > '{said}/{block.line}'"]
    return "\n".join(lines)


def environment(page, copy, tmp_path):
    """Where programs and packages come from.

    What a page installs with pip goes into an environment of its own, and what that needs is found
    among the packages that are installed already. For other pages scBERT is the copy.
    """
    installed = sysconfig.get_paths()
    programs, packages = installed["scripts"], [str(copy), installed["purelib"]]
    if any("pip install" in block.text for block in to_run(page)):
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "empty"], check=True)
        programs, packages = f"{tmp_path}/empty/bin:{programs}", packages[1:]
    return os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": ":".join(packages),
        "COLUMNS": "80",
        "MPLBACKEND": "agg",
    }


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_do_what_it_says(page, copy, tmp_path):
    said = tmp_path / "said"
    said.mkdir()
    done = subprocess.run(
        ["bash", "-c", script_of(page, said)],
        cwd=copy,
        env=environment(page, copy, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    before = None
    for block in blocks(page):
        if block.tag == "output":
            shown = (said / str(before.line)).read_text()
            same = doctest.OutputChecker().check_output(block.text, shown, AS_WRITTEN)
            assert same, f"{block.place} shows\n{block.text}\nbut it says\n{shown}"
        before = block
