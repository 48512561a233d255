"""The vectors trained on pairs, the step that writes them, and vectors that others published."""

import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scbert.config import load_config
from scbert.files import read_json
from scbert.genes.coexpression import read_pairs
from scbert.genes.gene2vec import ShuffledPairs, nearest_genes, train_vectors
from scbert.genes.matching import vocabulary_sha256
from scbert.genes.vector_files import read_text_vectors, read_vectors, write_text_vectors
from scbert.steps.train_gene2vec import train_gene2vec
from scbert.tables import write_table

ROOT = Path(__file__).parents[2]
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))


def settings(**values):
    chosen = {"dim": 8, "epochs": 30} | values
    return type(CONFIG.gene2vec).model_validate(CONFIG.gene2vec.model_dump() | chosen)


def two_blocks(n_genes=20, n=400, seed=0):
    """Pairs among the even genes and pairs among the odd ones; the first of each meets all."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, n_genes // 2, (n, 2)) * 2 + rng.integers(0, 2, (n, 1))
    every = [(parity, gene) for parity in (0, 1) for gene in range(parity + 2, n_genes, 2)]
    found = np.concatenate([drawn[drawn[:, 0] != drawn[:, 1]], every])
    return np.sort(found, axis=1).astype(np.uint16)


def cosine(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def test_shuffled_pairs_come_all_at_each_pass_in_another_order():
    pairs = np.array([[0, 1], [1, 2], [3, 4], [0, 5], [2, 9]], dtype=np.uint16)
    sentences = ShuffledPairs(pairs, 2, seed=0)
    first, second = list(sentences), list(sentences)
    assert sorted(first) == sorted(second) == sorted([str(a), str(b)] for a, b in pairs)
    assert first != second
    assert list(ShuffledPairs(pairs, 2, seed=0)) == first


@pytest.mark.parametrize("method", ["skipgram", "svd"])
def test_train_vectors_brings_two_blocks_apart(method):
    vectors, met = train_vectors(two_blocks(), 20, settings(method=method, epochs=60))
    similarity = cosine(vectors)
    same = np.arange(20)[:, None] % 2 == np.arange(20) % 2
    other = ~np.eye(20, dtype=bool)
    assert met.all()
    assert similarity[same & other].mean() > similarity[~same].mean() + 0.1


@pytest.mark.parametrize("method", ["skipgram", "svd"])
def test_train_vectors_gives_a_gene_without_pairs_a_vector_of_its_own(method):
    vectors, met = train_vectors(two_blocks(), 24, settings(method=method))
    assert met.tolist() == [True] * 20 + [False] * 4
    assert vectors.shape == (24, 8)
    assert vectors.dtype == np.float32
    assert len(np.unique(vectors, axis=0)) == 24
    size = np.sqrt(np.mean(vectors**2, axis=1))
    assert 0.3 < size[20:].mean() / size[:20].mean() < 3  # 32 draws: 1 +- 0.2, and genes differ
    assert np.abs(cosine(vectors)[20:, :20]).max() < 0.999


@pytest.mark.parametrize("method", ["skipgram", "svd"])
def test_train_vectors_gives_the_same_bits_for_the_same_seed(method):
    pairs = two_blocks()
    before = pairs.copy()
    first, _ = train_vectors(pairs, 22, settings(method=method, seed=1))
    assert train_vectors(pairs, 22, settings(method=method, seed=1))[0].tobytes() == first.tobytes()
    other, _ = train_vectors(pairs, 22, settings(method=method, seed=2))
    assert (other[20:] != first[20:]).all()
    assert method == "svd" or (other != first).all()
    assert (pairs == before).all()


def test_train_vectors_by_svd_pads_where_there_are_fewer_genes_than_values():
    vectors, met = train_vectors(np.array([[0, 1], [1, 2]]), 3, settings(method="svd"))
    assert met.all()
    assert vectors.shape == (3, 8)
    assert not vectors[:, 2:].any()


def test_train_vectors_refuses_no_pairs():
    with pytest.raises(ValueError, match=r"no sample .* has co-expressed pairs.*Lower pairs.min_"):
        train_vectors(np.empty((0, 2), dtype=np.uint16), 5, settings())


def test_nearest_genes_are_the_most_similar_candidates_without_the_gene():
    vectors = np.array([[1, 0], [2, 0.1], [0, 1], [-1, 0], [1, 1], [0, 0]], dtype=np.float32)
    assert nearest_genes(vectors, 0, np.arange(6), 3).tolist() == [1, 4, 2]
    assert nearest_genes(vectors, 0, np.array([0, 2, 3]), 2).tolist() == [2, 3]


def write_vocabulary(path, symbols):
    table = pd.DataFrame({"symbol": symbols, "gene_id": "", "n_cells": 100, "n_samples": 1})
    write_table(path, table)
    return table


@pytest.fixture
def corpus(tmp_path):
    """Pairs of two samples and of one without; two genes that met none."""
    symbols = ["CD3D", "LYZ", *(f"G{number:02}" for number in range(22))]
    vocabulary = write_vocabulary(tmp_path / "vocabulary.tsv", symbols)
    np.save(tmp_path / "s1.npy", two_blocks())
    np.save(tmp_path / "s2.npy", two_blocks(22, seed=1))
    np.save(tmp_path / "s3.npy", np.empty((0, 2), dtype=np.uint16))
    return tmp_path, vocabulary


def run(folder, pairs, imported=(), **values):
    train_gene2vec(
        pairs, folder / "vocabulary.tsv", list(imported), folder / "gene2vec", settings(**values)
    )
    return read_json(folder / "gene2vec/meta.json")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")  # umap's import
def test_train_gene2vec_writes_vectors_a_map_and_neighbours(corpus):
    folder, vocabulary = corpus
    meta = run(folder, [folder / f"s{number}.npy" for number in (1, 2, 3)])
    vectors = read_vectors(folder / "gene2vec", vocabulary)
    assert vectors.shape == (24, 8)
    assert (meta["genes"], meta["genes_with_pairs"], meta["dim"]) == (24, 22, 8)
    assert meta["pairs"] == sum(meta["pairs_per_sample"].values())
    assert list(meta["pairs_per_sample"]) == ["s1", "s2", "s3"]
    assert meta["pairs_per_sample"]["s3"] == 0
    even = {"CD3D", *(f"G{number:02}" for number in range(0, 22, 2))}
    assert len(set(meta["nearest"]["CD3D"]) & even) >= 6
    layout = pd.read_csv(folder / "gene2vec/map.tsv", sep="\t")
    assert layout.symbol.tolist() == vocabulary.symbol.tolist()[:22]
    assert np.isfinite(layout[["x", "y"]].to_numpy()).all()
    learnt = pd.read_csv(folder / "gene2vec/genes.tsv", sep="\t").learnt
    assert learnt.tolist() == ["yes"] * 22 + ["no"] * 2


def test_train_gene2vec_imports_what_it_exported(corpus, monkeypatch):
    folder, vocabulary = corpus
    monkeypatch.setattr(  # UMAP is compiled for seconds, and the map is not looked at
        "scbert.steps.train_gene2vec.umap", lambda vectors, *_, **__: vectors[:, :2]
    )
    run(folder, [folder / "s1.npy"])
    trained = read_vectors(folder / "gene2vec", vocabulary)
    text = (folder / "gene2vec/vectors.tsv").rename(folder / "vectors.tsv")
    lines = text.read_text().splitlines(keepends=True)
    text.write_text("".join(lines[:20]) + "OTHER" + "\t1" * 8 + "\n")
    meta = run(folder, [], [text], source="import", file="vectors.tsv")
    found = read_vectors(folder / "gene2vec", vocabulary)
    np.testing.assert_allclose(found[:20], trained[:20], rtol=1e-5)  # six digits are written
    assert (meta["genes_with_pairs"], meta["imported"]["genes"]) == (20, 21)
    assert np.abs(found[20:]).sum(axis=1).min() > 0


@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")  # umap's import
@pytest.mark.parametrize(
    ("n_genes", "mapped"), [(2, 0), (3, 0), pytest.param(4, 4, marks=pytest.mark.slow)]
)
def test_train_gene2vec_draws_no_map_of_three_genes(corpus, n_genes, mapped):
    folder, _ = corpus
    few = [[first, second] for second in range(n_genes) for first in range(second)]
    np.save(folder / "few.npy", np.array(few, dtype=np.uint16))
    meta = run(folder, [folder / "few.npy"])
    assert len(pd.read_csv(folder / "gene2vec/map.tsv", sep="\t")) == mapped
    assert (meta["no_map"] is None) == bool(mapped)
    assert mapped or "too few for a map" in meta["no_map"]


def test_train_gene2vec_leaves_nothing_when_there_are_no_pairs(corpus):
    folder, _ = corpus
    before = sorted(folder.iterdir())
    with pytest.raises(ValueError, match=r"no sample of the corpus has co-expressed pairs"):
        run(folder, [folder / "s3.npy"])
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((3, 2), dtype=np.int64), "holds int64 of shape"),
        (np.zeros((3, 3), dtype=np.uint16), r"of shape \(3, 3\)"),
        (np.full((60, 2), 24, dtype=np.uint16), "holds gene 24, but the vocabulary has 24 genes"),
        (np.array([{}]), "is damaged"),
        (b"", "is damaged"),
        (b"no numpy", "is damaged"),
    ],
)
def test_read_pairs_refuses_what_find_pairs_never_writes(tmp_path, content, message):
    file = tmp_path / "s.npy"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.save(file, content, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        read_pairs([file], 24)


def test_read_vectors_refuses_those_of_another_vocabulary(tmp_path, corpus):
    _, vocabulary = corpus
    (tmp_path / "gene2vec").mkdir()
    np.save(tmp_path / "gene2vec/vectors.npy", np.zeros((24, 8), dtype=np.float32))
    meta = '{"vocabulary_sha256": "' + vocabulary_sha256(vocabulary[::-1]) + '"}'
    (tmp_path / "gene2vec/meta.json").write_text(meta)
    with pytest.raises(ValueError, match=r"vectors for another vocabulary. Train gene2vec again"):
        read_vectors(tmp_path / "gene2vec", vocabulary)


PUBLISHED = "TP53\t0.5 -1.25 3e-2 \nCD3D\t1 2 3 \n"


@pytest.mark.parametrize("header", ["", "2 3\n"])
@pytest.mark.parametrize("zipped", [False, True])
def test_read_text_vectors_reads_both_published_formats(tmp_path, header, zipped):
    file, content = tmp_path / "vectors.txt", (header + PUBLISHED).encode()
    file.write_bytes(gzip.compress(content) if zipped else content)
    vectors, found, n_genes = read_text_vectors(file, ["CD3D", "LYZ", "TP53"], 3)
    assert vectors.tolist() == [[1, 2, 3], [0, 0, 0], [0.5, -1.25, 0.03]]
    assert found.tolist() == [True, False, True]
    assert n_genes == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PUBLISHED + "LYZ\t1 2\n", "line 3: 2 values, but gene2vec.dim is 3"),
        (PUBLISHED + "LYZ\t1 2 x\n", "line 3: .* 'LYZ' holds something that is not a number"),
        (PUBLISHED + "LYZ\t1 2 nan\n", "line 3: gene LYZ has a value that is not finite"),
        (PUBLISHED + "LYZ\t1 2 1e39\n", "line 3: gene LYZ has a value that is not finite"),
        (PUBLISHED + "TP53\t1 2 3\n", "line 3: gene TP53 is there twice, first in line 1"),
        ("<!DOCTYPE html>\n", "line 1: 1 values"),
        ("", "holds 0 genes"),
        ("ACTB 1 2 3\n", r"holds 1 genes \(ACTB\), but none of the 3"),
        ("A" * 1_000_001, "line 1: longer than 1,000,000 characters"),
        (b"\xff\xfe\x00", "line 1: this is not text"),
        (b"\x1f\x8b\x08 broken", "line 1: this is not text"),
    ],
)
def test_read_text_vectors_names_the_line_that_is_wrong(tmp_path, content, message):
    file = tmp_path / "vectors.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"{re.escape(str(file))}.*{message}"):
        read_text_vectors(file, ["CD3D", "LYZ", "TP53"], 3)


@given(content=st.one_of(st.binary(max_size=200), st.text("TP53 \t\n.-+einaf12", max_size=80)))
def test_read_text_vectors_reads_or_refuses_anything(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "fuzzed.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        vectors, found, _ = read_text_vectors(file, ["T", "TP53"], 2)
    except ValueError as error:
        assert str(file) in str(error)  # noqa: PT017  a refusal names the file
    else:
        assert np.isfinite(vectors).all()
        assert found.any()


def test_write_text_vectors_is_read_back(tmp_path):
    vectors = np.random.default_rng(0).normal(0, 1, (3, 4)).astype(np.float32)
    write_text_vectors(tmp_path / "vectors.tsv", ["A", "B", "C"], vectors)
    back, found, _ = read_text_vectors(tmp_path / "vectors.tsv", ["A", "B", "C"], 4)
    assert found.all()
    np.testing.assert_allclose(back, vectors, rtol=1e-5)  # six digits are written
