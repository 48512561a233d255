"""Each method of config/methods.tsv keeps the contract of docs/benchmark.md on a small task."""

import shlex
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbert.benchmark.task_files import TaskCells, read_answers
from scbert.config import load_methods

ROOT = Path(__file__).parents[2]
METHODS = load_methods(ROOT / "config/methods.tsv")
pytestmark = pytest.mark.slow
QUICK = [name for name, one in METHODS.items() if one.kind in ("baseline", "control")]


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Three types that genes tell apart, and a query with one gene fewer."""
    folder, rng = tmp_path_factory.mktemp("cells"), np.random.default_rng(0)
    types = np.repeat(["B", "T", "NK"], 30)
    means = 1 + 9 * (np.arange(30) // 10 == np.repeat([0, 1, 2], 30)[:, None])
    counts = sparse.csr_matrix(rng.poisson(means).astype(np.float32))
    obs = pd.DataFrame({"cell_type": types, "batch": "", "library_size": counts.sum(1).A1})
    obs.index = [f"c{i}" for i in range(90)]
    whole = ad.AnnData(counts, obs, pd.DataFrame(index=[f"G{i}" for i in range(30)]))
    learned, query = whole[::2].copy(), whole[1::2, :29].copy()
    task = TaskCells(
        *(one.to_numpy(dtype=str) for one in (learned.obs_names, learned.obs.cell_type)),
        *(one.to_numpy(dtype=str) for one in (query.obs_names, query.obs.cell_type)),
    )
    del query.obs["cell_type"]
    learned.write_h5ad(folder / "learned.h5ad")
    query.write_h5ad(folder / "query.h5ad")
    return folder, task


@pytest.mark.parametrize("name", [*QUICK, "template"])
def test_a_method_answers_by_the_contract(cells, name, tmp_path):
    folder, task = cells
    method = METHODS.get(name)
    program = ROOT / (method.folder if method else "scripts/methods/template") / "predict.py"
    words = ["--learned", folder / "learned.h5ad", "--query", folder / "query.h5ad"]
    words += ["--answers", tmp_path / "answers.tsv", "--seed", "1", "--threads", "1"]
    words += shlex.split(method.options) if method else []
    subprocess.run(
        [sys.executable, program, *map(str, words)], check=True, env={"PYTHONPATH": str(ROOT)}
    )
    answers = read_answers(tmp_path / "answers.tsv", task)
    right = (answers.label == task.true).mean()
    assert right == 1 or name in ("majority", "random")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_its_folder(name):
    folder = ROOT / METHODS[name].folder
    assert (folder / "predict.py").is_file()
    assert (folder / "environment.yaml").is_file()
