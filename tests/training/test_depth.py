from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from scbert.cells.cautions import by_code
from scbert.cells.how_to_read import AUTOMATIC
from scbert.cells.query import query_in_memory
from scbert.cells.query_cautions import shallow_cells
from scbert.steps import inspect_file as inspecting
from scbert.steps.annotate_file import annotate
from scbert.steps.embed_file import embed
from scbert.steps.evaluate_file import evaluate_file
from scbert.training.depth import DepthSeen
from scbert.training.query_tokens import CellsSeen, tokens_for


@pytest.fixture
def deep(toy):
    return toy.draw_cells(45, seed=5)


@pytest.fixture
def shallow(deep):
    """A quarter of the counts."""
    cells, rng = deep.copy(), np.random.default_rng(0)
    cells.X.data = rng.binomial(cells.X.data.astype(int), 0.25).astype(np.float32)
    cells.X.eliminate_zeros()
    return cells


def depth_of(cells, model):
    tokens = tokens_for(query_in_memory(cells, AUTOMATIC, "q"), model)
    seen = CellsSeen(tokens)
    for part in tokens.each():
        seen.add(part)
    return seen.depth


def test_depth_is_the_number_of_expressed_genes_beside_the_training_cells(deep, shallow, model):
    genes = model.seen.genes
    bits = np.unpackbits(model.seen.expressed, axis=1, count=len(genes))
    found = depth_of(shallow, model)
    assert found.training == np.median(bits.sum(axis=1))
    assert found.here == np.median(shallow.X.tocsc()[:, genes].getnnz(axis=1))  # all above bin 1
    assert found.genes == len(genes)
    assert found.share < 0.6
    assert depth_of(deep, model).share == pytest.approx(1, abs=0.1)


def test_only_genes_that_the_file_has_are_compared(deep, model):
    measured = np.arange(0, 80, 2)
    assert DepthSeen(model, measured).found() is None  # 40 genes say too little
    most = deep[:, :70].copy()
    assert depth_of(most, model) is None
    wide = SimpleModel(1000, genes=np.arange(0, 1000, 5), n_cells=4)
    assert DepthSeen(wide.model(model), np.arange(0, 1000, 10)).training == 100
    assert DepthSeen(wide.model(model), np.arange(0, 1000, 5)).training == 200
    assert not DepthSeen(wide.model(model), np.arange(0, 990, 10)).training


class SimpleModel:
    """A model whose training cells express all of the kept genes."""

    def __init__(self, n_genes, genes, n_cells):
        bits = np.packbits(np.ones((n_cells, len(genes)), dtype=np.uint8), axis=1)
        self.n_genes, self.genes, self.bits = n_genes, genes.astype(np.int32), bits

    def model(self, other):
        seen = replace(other.seen, genes=self.genes, expressed=self.bits)
        genes = other.genes.iloc[np.zeros(self.n_genes, dtype=int)]
        return replace(other, genes=genes, seen=seen)


def test_every_door_warns_of_shallow_cells(shallow, toy_run, tmp_path):
    text = annotate(shallow, toy_run.model).uns["scbert"]["warnings"]["shallow_cells"]
    assert "half of the cells express at most" in text
    path = tmp_path / "q.h5ad"
    shallow.write_h5ad(path)
    assert by_code(inspecting.inspect_file(path, toy_run.model).cautions)["shallow_cells"] == text
    assert embed(shallow, toy_run.model).uns["scbert_embedding"]["warnings"]["shallow_cells"]
    found = evaluate_file(toy_run.model, path, label_key="cell_type")
    assert found["warnings"]["shallow_cells"] == text


def test_logged_values_are_compared_as_well_unless_their_sum_is_guessed(shallow, model):
    logged = shallow.copy()
    totals = shallow.X.toarray().sum(axis=1, keepdims=True)
    logged.X = sparse.csr_matrix(np.log1p(1e4 * shallow.X.toarray() / totals), dtype=np.float32)
    assert depth_of(logged, model) == depth_of(shallow, model)
    factors = np.random.default_rng(0).uniform(0.5, 2.0, 45)
    logged.X = sparse.csr_matrix(np.log1p(shallow.X.toarray() / factors[:, None]), dtype=np.float32)
    assert depth_of(logged, model) is None


def test_deep_cells_give_no_warning_nor_does_a_converted_model(
    deep, shallow, model, tmp_path, monkeypatch
):
    assert "shallow_cells" not in annotate(deep, model).uns["scbert"]["warnings"]
    converted = replace(model, seen=None)
    shallow.write_h5ad(tmp_path / "q.h5ad")
    assert "shallow_cells" not in annotate(shallow, converted).uns["scbert"]["warnings"]
    monkeypatch.setattr(inspecting, "load_model", lambda folder: converted)
    rows = dict(inspecting.inspect_file(tmp_path / "q.h5ad", tmp_path).rows)
    assert rows["depth, beside the training cells"].startswith("not compared")


def test_a_part_of_shallow_cells_among_deep_ones_is_told(deep, shallow, model):
    """The median is deep; two cells in five have few counts."""
    mixed, few = deep.copy(), np.arange(45) % 5 < 2
    mixed.X = sparse.vstack([(shallow if low else deep).X[row] for row, low in enumerate(few)])
    mixed.X = mixed.X.tocsr()
    found = depth_of(mixed, model)
    assert found.share > 0.7
    assert found.below == pytest.approx(0.4, abs=0.12)
    (said,) = found.cautions()
    assert said.code == "shallow_cells"
    assert "of the training cells 5% do" in said.found
    assert not depth_of(deep, model).cautions()


def test_the_limit_is_that_of_the_measurement():
    assert not shallow_cells(70, 100, 1500)
    assert "express at most 69 of 1,500 compared genes, of the training cells 100 (69%)" in str(
        shallow_cells(69, 100, 1500)[0]
    )
