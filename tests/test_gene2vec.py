"""Co-expressed pairs, the vectors trained on them, and the step that writes both."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from scbert.cells import gene2vec
from scbert.cells.gene2vec import coexpressed_pairs, nearest_genes, train_vectors
from scbert.cells.genes import vocabulary_sha256
from scbert.cells.tables import write_table
from scbert.config import load_config
from scbert.files import read_json
from scbert.steps.gene2vec import read_vectors, train_gene2vec

ROOT = Path(__file__).parents[1]
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))


def settings(**values):
    chosen = {"dim": 8, "min_correlation": 0.3, "min_cells": 3, "max_partners": 50} | values
    return type(CONFIG.gene2vec).model_validate(CONFIG.gene2vec.model_dump() | chosen)


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
    monkeypatch.setattr(gene2vec, "BLOCK", block)
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


def cosine(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def test_train_vectors_brings_two_blocks_apart():
    pairs = coexpressed_pairs(blocks(n_genes=20), settings())
    vectors, met = train_vectors(pairs, 20, settings(epochs=60))
    similarity = cosine(vectors)
    same = np.arange(20)[:, None] % 2 == np.arange(20) % 2
    other = ~np.eye(20, dtype=bool)
    assert met.all()
    assert similarity[same & other].mean() > similarity[~same].mean() + 0.3


def test_train_vectors_gives_a_gene_without_pairs_a_vector_of_its_own():
    pairs = coexpressed_pairs(blocks(n_genes=20), settings())
    vectors, met = train_vectors(pairs, 24, settings())
    assert met.tolist() == [True] * 20 + [False] * 4
    assert vectors.shape == (24, 8)
    assert vectors.dtype == np.float32
    assert len(np.unique(vectors, axis=0)) == 24
    size = np.sqrt(np.mean(vectors**2, axis=1))
    assert 0.3 < size[20:].mean() / size[:20].mean() < 3  # 32 draws: 1 +- 0.2, and genes differ
    assert np.abs(cosine(vectors)[20:, :20]).max() < 0.999


def test_train_vectors_gives_the_same_bits_for_the_same_seed():
    pairs = coexpressed_pairs(blocks(n_genes=20), settings())
    first, _ = train_vectors(pairs, 22, settings(seed=1))
    assert train_vectors(pairs, 22, settings(seed=1))[0].tobytes() == first.tobytes()
    other, _ = train_vectors(pairs, 22, settings(seed=2))
    assert (other != first).all()


def test_train_vectors_refuses_no_pairs():
    with pytest.raises(ValueError, match=r"correlated by 0.3 or more.*Lower gene2vec.min_corr"):
        train_vectors(np.empty((0, 2), dtype=np.int64), 5, settings())


def test_nearest_genes_are_the_most_similar_candidates_without_the_gene():
    vectors = np.array([[1, 0], [2, 0.1], [0, 1], [-1, 0], [1, 1], [0, 0]], dtype=np.float32)
    assert nearest_genes(vectors, 0, np.arange(6), 3).tolist() == [1, 4, 2]
    assert nearest_genes(vectors, 0, np.array([0, 2, 3]), 2).tolist() == [2, 3]


def write_vocabulary(path, symbols):
    table = pd.DataFrame({"symbol": symbols, "gene_id": "", "n_cells": 100, "n_samples": 1})
    write_table(path, table)
    return table


def write_expression(path, x, columns):
    """As normalize_counts does; the columns are those of the vocabulary that were measured."""
    var = pd.DataFrame({"vocabulary_index": columns}, index=[f"g{number}" for number in columns])
    obs = pd.DataFrame(index=[f"c{number}" for number in range(x.shape[0])])
    ad.AnnData(sparse.csr_matrix(x, dtype=np.float32), obs, var).write_h5ad(path)


@pytest.fixture
def corpus(tmp_path):
    """Two samples that measured other genes, and one gene that neither did."""
    symbols = ["CD3D", "LYZ", *(f"G{number:02}" for number in range(22))]
    vocabulary = write_vocabulary(tmp_path / "vocabulary.tsv", symbols)
    write_expression(tmp_path / "s1.h5ad", blocks(n_genes=20), np.arange(20))
    write_expression(tmp_path / "s2.h5ad", blocks(n_genes=22, seed=1)[:, 5:], np.arange(5, 22))
    return tmp_path, vocabulary


@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")  # umap's import
def test_train_gene2vec_writes_vectors_a_map_and_neighbours(corpus):
    folder, vocabulary = corpus
    paths = [folder / "s1.h5ad", folder / "s2.h5ad"]
    train_gene2vec(paths, folder / "vocabulary.tsv", folder / "gene2vec", settings(epochs=30))
    vectors = read_vectors(folder / "gene2vec", vocabulary)
    meta = read_json(folder / "gene2vec/meta.json")
    assert vectors.shape == (24, 8)
    assert (meta["genes"], meta["genes_with_pairs"], meta["dim"]) == (24, 22, 8)
    assert meta["pairs"] == sum(meta["pairs_per_sample"].values())
    assert list(meta["pairs_per_sample"]) == ["s1", "s2"]
    even = {"CD3D", *(f"G{number:02}" for number in range(0, 22, 2))}
    assert set(meta["nearest"]["CD3D"]) <= even
    layout = pd.read_csv(folder / "gene2vec/map.tsv", sep="\t")
    assert layout.symbol.tolist() == vocabulary.symbol.tolist()[:22]
    assert np.isfinite(layout[["x", "y"]].to_numpy()).all()


def test_train_gene2vec_leaves_nothing_when_there_are_no_pairs(corpus):
    folder, _ = corpus
    with pytest.raises(ValueError, match=r"no two genes are correlated by 0.99"):
        train_gene2vec(
            [folder / "s1.h5ad"],
            folder / "vocabulary.tsv",
            folder / "gene2vec",
            settings(min_correlation=0.99),
        )
    assert sorted(path.name for path in folder.iterdir()) == [
        "s1.h5ad",
        "s2.h5ad",
        "vocabulary.tsv",
    ]


def test_read_vectors_refuses_those_of_another_vocabulary(tmp_path, corpus):
    _, vocabulary = corpus
    (tmp_path / "gene2vec").mkdir()
    np.save(tmp_path / "gene2vec/vectors.npy", np.zeros((24, 8), dtype=np.float32))
    meta = '{"vocabulary_sha256": "' + vocabulary_sha256(vocabulary[::-1]) + '"}'
    (tmp_path / "gene2vec/meta.json").write_text(meta)
    with pytest.raises(ValueError, match=r"vectors for another vocabulary. Train gene2vec again"):
        read_vectors(tmp_path / "gene2vec", vocabulary)
