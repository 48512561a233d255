"""Quality of gene vectors: the measures on planted vectors, the files they read, and the step."""

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from scbert.config import load_config
from scbert.evidence.gene_vectors import auc, judge_classifier, judge_gene_sets, judge_pairs
from scbert.files import read_json
from scbert.genes.gene_sets import read_gene_sets, read_labelled_pairs
from scbert.steps.evaluate_gene2vec import evaluate_gene2vec
from scbert.steps.train_gene2vec import train_gene2vec
from scbert.tables import write_table

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("SCBERT_SHARED_DATA", ROOT.parent / "shared/data"))
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))


def settings(**values):
    chosen = {"bootstrap_samples": 100, "random_vectors": 2} | values
    kind = type(CONFIG.gene2vec_quality)
    return kind.model_validate(CONFIG.gene2vec_quality.model_dump() | chosen)


def planted(n_genes=400, n_groups=20, dim=16, seed=0):
    """Vectors around the centre of the gene's group, and random ones; a group is a set."""
    rng = np.random.default_rng(seed)
    group = np.arange(n_genes) % n_groups
    near = rng.normal(0, 1, (n_groups, dim))[group] + rng.normal(0, 1, (n_genes, dim))
    far = rng.normal(0, 1, (n_genes, dim))
    sets = [np.flatnonzero(group == number) for number in range(n_groups)]
    return {"gene2vec": [near], "random": [far]}, sets, group


def test_judge_gene_sets_tells_planted_sets_from_chance():
    vectors, sets, _ = planted()
    found = judge_gene_sets(vectors, sets, np.arange(400), settings())
    ours, random = found.methods["gene2vec"].auc, found.methods["random"].auc
    assert found.n == 20
    assert ours.mean == 1
    assert random.low < 0.5 < random.high
    assert found.differences["random"].low > 0.2


def test_judge_gene_sets_gives_the_ratio_of_mean_cosines():
    """Vectors of 0 or 90 degrees: a set of one direction, and unrelated genes half alike."""
    directions = np.repeat(np.eye(2), 300, axis=0)
    sets = [np.arange(10), np.array([0, 1, 2, 300])]  # cosines 1, and 3 pairs of 6
    found = judge_gene_sets({"gene2vec": [directions]}, sets, np.arange(600), settings())
    within, unrelated = (1 + 0.5) / 2, 0.5
    ratio = found.methods["gene2vec"].ratio
    assert ratio == pytest.approx(within / unrelated, rel=0.02)  # unrelated genes are a sample


def test_judge_gene_sets_has_no_ratio_where_unrelated_genes_have_no_cosine():
    vectors, sets, _ = planted()
    found = judge_gene_sets(vectors, sets, np.arange(400), settings())
    assert found.methods["random"].ratio is None


def test_judge_gene_sets_is_not_fooled_by_the_level_of_expression():
    """Vectors that hold only how widely a gene is expressed, and sets of one level each."""
    level = np.arange(6000) / 6000
    angle = {"gene2vec": [np.stack([np.cos(level), np.sin(level)], axis=1)]}
    rng = np.random.default_rng(0)
    sets = [rng.choice(1000, 15, replace=False) + low for low in range(0, 5000, 20)]
    found = judge_gene_sets(angle, sets, np.arange(6000), settings())
    assert found.methods["gene2vec"].auc.mean < 0.6  # 1 beside any 15 genes


def draw_pairs(group, n, seed):
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, len(group), (4 * n, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    same = group[pairs[:, 0]] == group[pairs[:, 1]]
    chosen = np.concatenate([np.flatnonzero(same)[: n // 2], np.flatnonzero(~same)[: n // 2]])
    return pairs[chosen], same[chosen]


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 9, 200) / 9, rng.random(200) < 0.3  # with ties
    assert auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))


def test_judge_pairs_tells_pairs_of_one_group():
    vectors, _, group = planted()
    found = judge_pairs(vectors, *draw_pairs(group, 300, 0), settings())
    assert found.methods["gene2vec"].auc.low > 0.8
    assert abs(found.methods["random"].auc.mean - 0.5) < 0.1
    assert found == judge_pairs(vectors, *draw_pairs(group, 300, 0), settings())


def test_judge_classifier_learns_nothing_from_random_vectors_and_popular_genes():
    """Whether a pair shares a function depends on its first gene alone: no test gene was seen."""
    vectors, _, group = planted(n_groups=4)
    popular = np.random.default_rng(1).random(400) < 0.5
    parts = {}
    for number, part in enumerate(("train", "valid", "test")):
        pairs, _ = draw_pairs(group, 2000, number)
        parts[part] = pairs, popular[pairs[:, 0]]
    found = judge_classifier({"random": vectors["random"]}, parts, settings())
    assert abs(found.methods["random"].auc.mean - 0.5) < 0.12
    related = {p: draw_pairs(group, 1200, n) for n, p in enumerate(("train", "valid", "test"))}
    learnt = judge_classifier(vectors, related, settings())
    assert learnt.methods["gene2vec"].auc.mean > 0.75
    assert learnt.differences["random"].low > 0.1


def test_judge_classifier_says_why_it_could_not():
    vectors, _, _ = planted()
    nothing = np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=bool)
    parts = {"train": nothing, "valid": nothing, "test": nothing}
    assert judge_classifier(vectors, parts, settings()).reason.startswith("the training pairs")


def test_read_gene_sets_keeps_the_last_gene_and_leaves_large_sets_out(tmp_path):
    file = tmp_path / "sets.gmt"
    text = "A\thttp://a\tTP53\tCD3D\t\tTP53\r\nB\t\tLYZ,1.0\tCD14,0.5\n\nC\tx\tG1\tG2\tG3\n"
    expected = {"A": ["TP53", "CD3D"], "B": ["LYZ", "CD14"]}
    file.write_text(text)
    assert read_gene_sets(file, 2) == expected
    file.write_bytes(gzip.compress(text.encode()))
    assert read_gene_sets(file, 2) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"A\tb\tC\nonly text\n", "line 2: 1 fields"),
        (b"A\tb\tC\nA\tb\tD\n", "line 2: the set 'A' is there twice"),
        (b"A\tb\tC\tD\tE\tF\n", "holds 1 sets, but none of 3 genes or fewer"),
        (b"", "holds 0 sets"),
        (b"\xff\xfe\x00", "is not a text file"),
        (b"\x1f\x8b\x08 broken", "is not a text file"),
    ],
)
def test_read_gene_sets_names_what_is_wrong(tmp_path, content, message):
    (tmp_path / "sets.gmt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_gene_sets(tmp_path / "sets.gmt", 3)


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        ("A B\nC\n", "1\n0\n", "line 2: 'C', but two genes"),
        ("A B\n", "2\n", "line 1: '2', but it must be 0 or 1"),
        ("A B\n", "1\n0\n", "has 1 lines and .* has 2"),
    ],
)
def test_read_labelled_pairs_names_what_is_wrong(tmp_path, text, label, message):
    (tmp_path / "text").write_text(text)
    (tmp_path / "label").write_text(label)
    with pytest.raises(ValueError, match=message):
        read_labelled_pairs(tmp_path / "text", tmp_path / "label")


def test_read_labelled_pairs_reads_the_published_files():
    folder = SHARED / "gene2vec"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    files = (folder / f"ggipnn_test_{kind}.txt.gz" for kind in ("text", "label"))
    pairs, shares = read_labelled_pairs(*files)
    assert len(pairs) == len(shares) == 21_448
    assert pairs[0] == ("ALDOB", "SIGMAR1")
    assert not shares[0]


@pytest.fixture
def trained(tmp_path):
    """Vectors of 40 genes in two blocks, and the pairs they were trained on."""
    symbols = [f"G{number:02}" for number in range(42)]
    table = pd.DataFrame({"symbol": symbols, "gene_id": "", "n_cells": 100, "n_samples": 1})
    write_table(tmp_path / "vocabulary.tsv", table)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 20, (2000, 2)) * 2 + rng.integers(0, 2, (2000, 1))
    np.save(tmp_path / "s.npy", drawn[drawn[:, 0] != drawn[:, 1]].astype(np.uint16))
    kind = type(CONFIG.gene2vec)
    chosen = CONFIG.gene2vec.model_dump() | {"dim": 8, "method": "svd"}
    train_gene2vec(
        [tmp_path / "s.npy"],
        tmp_path / "vocabulary.tsv",
        [],
        tmp_path / "gene2vec",
        kind.model_validate(chosen | {"epochs": 3}),
    )
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")  # umap's import
def test_evaluate_gene2vec_writes_every_measure_beside_its_rivals(trained):
    even, odd = ("\t".join(f"G{n:02}" for n in range(start, 42, 2)) for start in (0, 1))
    (trained / "a.gmt").write_text(f"even\t\t{even}\nodd\t\t{odd}\nother\t\tX1\tX2\n")
    (trained / "b.gmt").write_text("other\t\tX1\tX2\n")
    rng = np.random.default_rng(0)
    files = []
    for part in ("train", "valid", "test"):
        pairs = rng.integers(0, 42, (300, 2))
        text, label = trained / f"{part}_text", trained / f"{part}_label"
        text.write_text("".join(f"G{a:02} G{b:02}\n" for a, b in pairs))
        label.write_text("".join(f"{int(a % 2 == b % 2)}\n" for a, b in pairs))
        files += [text, label]
    quality = trained / "quality.json"
    sets = [trained / "a.gmt", trained / "b.gmt"]
    evaluate_gene2vec(
        trained / "gene2vec",
        [trained / "s.npy"],
        trained / "vocabulary.tsv",
        sets,
        files,
        quality,
        settings(),
    )
    found = read_json(quality)
    assert found["genes_compared"] == 40
    measures = {measure["name"]: measure for measure in found["measures"]}
    assert measures["b"]["n"] == 0
    assert "no set has two" in measures["b"]["reason"]
    assert list(measures["a"]["methods"]) == ["gene2vec", "skipgram", "random"]
    assert measures["a"]["methods"]["gene2vec"]["auc"]["mean"] == 1
    assert measures["labelled pairs, cosine"]["differences"]["random"]["low"] > 0.3
    assert measures["labelled pairs, classifier"]["methods"]["gene2vec"]["auc"]["mean"] > 0.9
