"""Each method of config/methods.tsv keeps the contract of docs/benchmark.md on a small task."""

import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy import sparse

from scbert.benchmark.task_files import TaskCells, read_answers
from scbert.config import load_methods
from scbert.defaults import load_defaults
from scbert.shipped import BENCHMARK_ENCODER, model_folder
from scbert.training.bundle import load_pretrained

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


def test_without_encoder_is_the_default_but_for_the_encoder():
    folder = ROOT / METHODS["without_encoder"].folder
    own = yaml.safe_load((folder / "without_encoder.yaml").read_text())
    experts = load_defaults(None, {}).finetune.experts
    assert own == {"finetune": {"experts": [name for name in experts if name != "encoder"]}}


@pytest.mark.parametrize(
    "name", [name for name, one in METHODS.items() if "--config" in one.options]
)
def test_a_method_has_the_configuration_that_it_names(name):
    words = shlex.split(METHODS[name].options)
    assert (ROOT / METHODS[name].folder / words[words.index("--config") + 1]).is_file()


@pytest.fixture(scope="module")
def scbert():
    """The program of scBERT's methods, as a module."""
    spec = spec_from_file_location("predict", ROOT / "scripts/methods/scbert/predict.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_drawn_gene_vectors_leave_all_else_as_it_was_pretrained(scbert, tmp_path):
    """Of the table of genes the further rows, which are no genes, stay as well."""
    package = load_pretrained(model_folder(BENCHMARK_ENCODER))
    drawn = load_pretrained(scbert.random_genes(tmp_path / "a", 1))
    again, other = (
        load_pretrained(scbert.random_genes(tmp_path / f"seed{seed}", seed)) for seed in (1, 2)
    )
    genes = slice(0, len(package.genes))
    ours, theirs = (one.network.state_dict() for one in (package, drawn))
    changed = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert changed == ["encoder.gene.weight"]
    before, after = ours[changed[0]], theirs[changed[0]]
    assert torch.equal(before[genes.stop :], after[genes.stop :])
    assert after[genes].std() == pytest.approx(before[genes].std().item(), rel=0.01)
    assert torch.equal(after, again.network.state_dict()[changed[0]])
    assert not torch.equal(after, other.network.state_dict()[changed[0]])
    assert drawn.genes.equals(package.genes)


def test_a_drawn_encoder_has_the_same_drawn_gene_vectors_and_other_weights(scbert, tmp_path):
    genes = load_pretrained(scbert.random_genes(tmp_path / "genes", 1))
    whole = load_pretrained(scbert.random_encoder(tmp_path / "whole", 1))
    n = len(genes.genes)
    one, other = (model.network.encoder.gene.weight[:n] for model in (genes, whole))
    assert torch.equal(one, other)
    assert not torch.equal(genes.network.to_bins.weight, whole.network.to_bins.weight)
