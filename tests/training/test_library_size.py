"""A column with all counts of each cell, beside what the training cells lead to expect."""

import re
from dataclasses import replace

import numpy as np
import pytest

from scbert.cells.quality import cell_sums
from scbert.steps.annotate_file import annotate
from scbert.steps.embed_file import embed
from scbert.steps.evaluate_file import evaluate_file


@pytest.fixture
def cells(toy):
    """45 cells, with columns of their counts and of reads, three of each."""
    cells = toy.draw_cells(45, seed=5)
    cells.obs["n_counts"] = cell_sums(cells.X)
    cells.obs["n_reads"] = 3 * cells.obs.n_counts
    return cells


def warnings(cells, model, key):
    return annotate(cells, model, library_size_key=key).uns["scbert"]["warnings"]


def test_reads_instead_of_counts_are_told_of_all_genes_and_of_half_of_them(cells, model):
    """Where genes are missing, cells have more counts than the file shows, and rightly so."""
    for few, times in ((cells, 3.0), (cells[:, ::2].copy(), 6.0)):
        assert "large_library" not in warnings(few, model, "n_counts")
        text = warnings(few, model, "n_reads")["large_library"]
        found = re.match(r"by obs\['n_reads'\] a cell has (.*) times .* where (.*) times", text)
        assert float(found[1]) == pytest.approx(times, rel=0.1)  # the genes are drawn
        assert float(found[2]) == pytest.approx(times / 3, rel=0.2)


def test_logs_with_such_a_column_are_told(cells, model):
    """Divided by a size factor of each cell, so that only the column says all counts."""
    factors = np.random.default_rng(0).uniform(0.5, 2, 45)
    cells.X = cells.X.multiply(1 / factors[:, None]).tocsr().log1p()
    assert "large_library" not in warnings(cells, model, "n_counts")
    assert "large_library" in warnings(cells, model, "n_reads")


def test_a_model_of_cells_with_such_a_column_takes_them(cells, model):
    third = replace(model.components, counts_V=model.components.counts_V / 3)
    assert "large_library" not in warnings(cells, replace(model, components=third), "n_reads")


def test_a_model_that_keeps_no_counts_says_nothing(cells, toy_run):
    found = embed(cells, toy_run.pretrained, library_size_key="n_reads")
    assert "large_library" not in found.uns["scbert_embedding"]["warnings"]


def test_evaluate_tells_it(cells, toy_run, tmp_path):
    cells.write_h5ad(tmp_path / "q.h5ad")
    how = {"label_key": "cell_type", "library_size_key": "n_reads"}
    found = evaluate_file(toy_run.model, tmp_path / "q.h5ad", **how)
    assert "3.0 times the counts" in found["warnings"]["large_library"]
