"""Co-expressed pairs of genes of one sample, over cells and over metacells, and their step."""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from scbert.config import load_config
from scbert.genes import coexpression
from scbert.genes.coexpression import coexpressed_pairs, metacells
from scbert.steps.find_pairs import find_pairs
from scbert.tables import write_table

ROOT = Path(__file__).parents[2]
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))


def settings(**values):
    chosen = {"min_cells": 3, "max_partners": 50, "cells_per_metacell": 1, "min_metacells": 3}
    return type(CONFIG.pairs).model_validate(CONFIG.pairs.model_dump() | chosen | values)


def blocks(n_cells=200, n_genes=10, seed=0):
    """Expression in which the even genes follow one hidden level and the odd ones another."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 1, (n_cells, 2))
    noise = rng.normal(0, 0.5, (n_cells, n_genes))
    return sparse.csr_matrix(np.maximum(level[:, np.arange(n_genes) % 2] + noise + 0.5, 0))


def test_coexpressed_pairs_of_four_genes():
    """The second gene is twice the first, the third falls as they rise, the fourth is one cell."""
    x = np.array([[1, 2, 4, 0], [2, 4, 3, 0], [3, 6, 2, 9], [4, 8, 1, 0.0]])
    assert coexpressed_pairs(sparse.csr_matrix(x), settings()).tolist() == [[0, 1]]


@pytest.mark.parametrize("threshold", [-1, -0.2, 0.1, 0.5, 0.9])
def test_coexpressed_pairs_are_those_of_numpy(threshold):
    x = blocks(n_genes=30)
    correlation = np.corrcoef(x.toarray().T)
    expected = np.argwhere(np.triu(correlation >= threshold, k=1))
    found = coexpressed_pairs(x, settings(min_correlation=threshold))
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("block", [1, 7, 29, 30])
@pytest.mark.parametrize("max_partners", [2, 50])
def test_coexpressed_pairs_do_not_depend_on_the_block(monkeypatch, block, max_partners):
    x = blocks(n_genes=30)
    whole = coexpressed_pairs(x, settings(max_partners=max_partners))
    monkeypatch.setattr(coexpression, "BLOCK", block)
    assert (coexpressed_pairs(x, settings(max_partners=max_partners)) == whole).all()


def test_coexpressed_pairs_keeps_the_strongest_partners_of_each_gene():
    x = blocks(n_genes=12)
    correlation = np.corrcoef(x.toarray().T)
    np.fill_diagonal(correlation, -np.inf)
    strongest = np.argsort(-correlation, axis=1)[:, :2]
    expected = {tuple(sorted((gene, other))) for gene in range(12) for other in strongest[gene]}
    found = coexpressed_pairs(x, settings(min_correlation=-1, max_partners=2))
    assert {tuple(pair) for pair in found.tolist()} == expected


def test_coexpressed_pairs_come_once_lower_first_and_sorted():
    found = coexpressed_pairs(blocks(n_genes=30), settings())
    assert len(found) > 50
    assert (found[:, 0] < found[:, 1]).all()
    assert sorted(map(tuple, found.tolist())) == list(map(tuple, found.tolist()))
    assert len(set(map(tuple, found.tolist()))) == len(found)


def test_coexpressed_pairs_ignores_genes_of_few_cells_and_keeps_the_numbers_of_the_others():
    x = blocks(n_genes=9).toarray()
    x[5:, 0] = 0
    before = x.copy()
    n_cells = int((x > 0).sum(axis=0)[0])
    found = coexpressed_pairs(sparse.csr_matrix(x), settings(min_cells=n_cells + 1))
    rest = coexpressed_pairs(sparse.csr_matrix(x[:, 1:]), settings())
    assert found.tolist() == (rest + 1).tolist()
    assert (x == before).all()


def test_coexpressed_pairs_of_a_gene_that_never_varies_are_none():
    x = blocks(n_genes=6).toarray()
    x[:, 3] = 13.3
    assert 3 not in coexpressed_pairs(sparse.csr_matrix(x), settings(min_correlation=0.05))


@pytest.mark.parametrize("n_genes", [1, 4])
def test_coexpressed_pairs_may_be_none(n_genes):
    """One gene, or four of which none is in enough cells."""
    x = blocks(n_cells=9)[:, :n_genes]
    few = settings(min_cells=3 if n_genes == 1 else 10)
    assert coexpressed_pairs(x, few).shape == (0, 2)


def test_coexpressed_pairs_are_uint16_for_the_largest_vocabulary():
    x = sparse.csr_matrix(blocks(n_genes=2))
    wide = sparse.csr_matrix((x.data, x.indices + 65_533, x.indptr), shape=(x.shape[0], 65_535))
    found = coexpressed_pairs(wide, settings(min_correlation=-0.9))
    assert found.dtype == np.uint16
    assert found.tolist() == [[65_533, 65_534]]


def test_metacells_average_cells_that_are_alike():
    """Ten cells of one kind and ten of another, far apart."""
    x = np.zeros((20, 6), dtype=np.float32)
    x[::2, :3] = np.arange(10)[:, None] * 0.01 + 5
    x[1::2, 3:] = np.arange(10)[:, None] * 0.01 + 5
    found = metacells(sparse.csr_matrix(x), settings(cells_per_metacell=10))
    expected = [x[1::2].mean(axis=0), x[::2].mean(axis=0)]
    np.testing.assert_allclose(sorted(found.tolist()), expected, atol=1e-5)  # float32


def test_metacells_of_one_cell_are_the_cells():
    x = blocks(n_cells=30)
    assert (metacells(x, settings()) == x.toarray().astype(np.float32)).all()


def test_metacells_are_bounded_whatever_the_number_of_cells():
    x = blocks(n_cells=400)
    assert len(metacells(x, settings(max_metacells=10))) <= 10
    assert len(metacells(x, settings(max_metacells=10, cells_per_metacell=100))) <= 4


def test_coexpressed_pairs_over_metacells_give_the_same_bits_again():
    x = blocks(n_cells=400, n_genes=20)
    chosen = settings(cells_per_metacell=10)
    found = coexpressed_pairs(x, chosen)
    assert len(found) > 20
    assert (found[:, 0] % 2 == found[:, 1] % 2).mean() > 0.9  # even genes follow one level
    assert coexpressed_pairs(x, chosen).tobytes() == found.tobytes()


@pytest.mark.parametrize("n_cells", [0, 1, 99])
def test_coexpressed_pairs_of_a_small_sample_are_none(n_cells):
    x = blocks(n_cells=200)[:n_cells]
    found = coexpressed_pairs(x, settings(cells_per_metacell=10, min_metacells=10))
    assert found.shape == (0, 2)
    assert found.dtype == np.uint16


def write_sample(folder, x):
    """As normalize_counts does; the columns are genes 3, 5, 7 ... of the vocabulary."""
    columns = 3 + 2 * np.arange(x.shape[1])
    symbols = [f"G{number}" for number in range(60)]
    table = pd.DataFrame({"symbol": symbols, "gene_id": "", "n_cells": 100, "n_samples": 1})
    write_table(folder / "vocabulary.tsv", table)
    var = pd.DataFrame({"vocabulary_index": columns}, index=[f"g{n}" for n in columns])
    obs = pd.DataFrame(index=[f"c{number}" for number in range(x.shape[0])])
    ad.AnnData(sparse.csr_matrix(x, dtype=np.float32), obs, var).write_h5ad(folder / "s1.h5ad")
    return [folder / "s1.h5ad", folder / "vocabulary.tsv", folder / "pairs.npy"]


def test_find_pairs_writes_rows_of_the_vocabulary(tmp_path):
    x = blocks(n_genes=20)
    find_pairs(*write_sample(tmp_path, x), settings())
    written = np.load(tmp_path / "pairs.npy", allow_pickle=False)
    assert written.tolist() == (3 + 2 * coexpressed_pairs(x, settings()).astype(int)).tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pairs.npy",
        "s1.h5ad",
        "vocabulary.tsv",
    ]


@pytest.mark.parametrize(
    ("n_cells", "changed", "reason"),
    [
        (0, {}, "it has 0 cells and pairs.min_metacells and pairs.cells_per_metacell ask for 3"),
        (40, {"cells_per_metacell": 20}, "it has 40 cells"),
        (40, {"min_correlation": 0.99}, "no two genes, each in 3 cells or more, correlate by 0.99"),
    ],
)
def test_find_pairs_says_why_a_sample_has_none(tmp_path, caplog, n_cells, changed, reason):
    with caplog.at_level(logging.WARNING, logger="scbert"):
        find_pairs(*write_sample(tmp_path, blocks(n_cells=200)[:n_cells]), settings(**changed))
    assert np.load(tmp_path / "pairs.npy").shape == (0, 2)
    assert reason in caplog.text
