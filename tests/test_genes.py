import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scbert.cells.genes import (
    align,
    choose_genes,
    complete_names,
    gene_names,
    match_genes,
    read_gene_table,
    vocabulary_sha256,
)

CD3D, MS4A1, LYZ = "ENSG00000167286", "ENSG00000156738", "ENSG00000090382"
TABLE = pd.DataFrame({"gene_id": [CD3D, MS4A1, LYZ], "symbol": ["CD3D", "MS4A1", "LYZ"]})
VOCABULARY = pd.DataFrame({"symbol": ["CD3D", "LYZ", "MS4A1"], "gene_id": [CD3D, LYZ, ""]})


def var(index, **columns):
    return pd.DataFrame(columns, index=index)


def names(*rows):
    return pd.DataFrame(rows, columns=["symbol", "gene_id"])


def pairs(table):
    return list(zip(table.symbol, table.gene_id, strict=True))


@pytest.mark.parametrize(
    "genes",
    [
        var(["CD3D", "LYZ"], gene_ids=[CD3D, LYZ]),
        var(["CD3D", "LYZ"], gene_id=[CD3D + ".12", LYZ + ".3"]),
        var([CD3D, LYZ], feature_name=["CD3D", "LYZ"]),
        var([CD3D + ".12", LYZ + ".3"], feature_name=pd.Categorical(["CD3D", "LYZ"])),
        var(["0", "1"], symbol=["CD3D", "LYZ"], ensembl_id=[CD3D, LYZ]),
        var([CD3D, LYZ], gene_symbols=["CD3D", "LYZ"], gene_ids=["915", "4069"]),
        var(["CD3D", LYZ], gene_ids=[CD3D, np.nan], gene_name=[np.nan, "LYZ"]),
    ],
    ids=["10x", "versions", "CELLxGENE", "both", "columns", "Entrez ids", "gaps"],
)
def test_gene_names_finds_symbols_and_ids(genes):
    before = genes.copy()
    assert pairs(gene_names(genes)) == [("CD3D", CD3D), ("LYZ", LYZ)]
    pd.testing.assert_frame_equal(genes, before)


def test_gene_names_leaves_empty_what_the_file_does_not_say():
    assert pairs(gene_names(var(["CD3D", LYZ + ".3", "ENSMUSG00000024442"]))) == [
        ("CD3D", ""),
        ("", LYZ),
        ("", "ENSMUSG00000024442"),
    ]
    unnamed = var([CD3D, LYZ], feature_name=["CD3D", None])
    assert pairs(gene_names(unnamed)) == [("CD3D", CD3D), ("", LYZ)]


def test_complete_names_fills_gaps_and_overrides_nothing():
    given_names = names(("CD3D", ""), ("", LYZ), ("old MS4A1", MS4A1), ("XYZ", ""), ("", "ENSG9"))
    assert pairs(complete_names(given_names, TABLE)) == [
        ("CD3D", CD3D),
        ("LYZ", LYZ),
        ("old MS4A1", MS4A1),
        ("XYZ", ""),
        ("ENSG9", "ENSG9"),
    ]
    assert given_names.gene_id[0] == ""


def test_read_gene_table_keeps_what_is_unambiguous(tmp_path):
    a, b, c = (f"ENSG0000000000{number}" for number in (1, 2, 3))
    lines = [f"{CD3D},CD3D,x", f"{CD3D},CD3D,y", f"{a},TWICE,", f"{b},TWICE,", f"{c},P,", f"{c},Q,"]
    (tmp_path / "genes.csv").write_text("\n".join(["gene_id,symbol,note", *lines, "915,LYZ,", ""]))
    assert pairs(read_gene_table(tmp_path / "genes.csv")) == [("CD3D", CD3D)]


def test_choose_genes_counts_over_samples_and_sorts_by_symbol():
    """LYZ: 3 + 4 cells; the symbol-less id is the same gene. MS4A1 is in one sample."""
    samples = [
        (names(("LYZ", LYZ), ("CD3D", CD3D), ("rare", "")), np.array([3, 9, 1])),
        (names(("", LYZ), ("MS4A1", MS4A1), ("CD3D", "")), np.array([4, 5, 0])),
    ]
    samples = [(complete_names(found, TABLE), n_cells) for found, n_cells in samples]
    vocabulary = choose_genes(samples, min_cells=5, max_genes=10)
    assert vocabulary.to_dict("list") == {
        "symbol": ["CD3D", "LYZ", "MS4A1"],
        "gene_id": [CD3D, LYZ, MS4A1],
        "n_cells": [9, 7, 5],
        "n_samples": [1, 2, 1],
    }


def test_choose_genes_keeps_the_most_expressed_and_breaks_ties_by_symbol():
    found = names(("b", ""), ("B", ""), ("a", ""), ("C", ""))
    n_cells = np.array([5, 5, 5, 9])
    chosen = [choose_genes([(found, n_cells)], 1, most).symbol.tolist() for most in (1, 2, 3, 4)]
    assert chosen == [["C"], ["B", "C"], ["B", "C", "a"], ["B", "C", "a", "b"]]  # ASCII


def test_choose_genes_counts_a_gene_with_two_columns_once_per_sample():
    """How many cells express either is unknown: at least as many as express the one."""
    sample = names(("MATR3", CD3D), ("MATR3-1", CD3D), ("LYZ", LYZ)), np.array([4, 6, 3])
    vocabulary = choose_genes([sample], 1, 10)
    assert vocabulary.gene_id.tolist() == [LYZ, CD3D]
    assert vocabulary.n_cells.tolist() == [3, 6]
    assert vocabulary.n_samples.tolist() == [1, 1]


def test_choose_genes_of_one_symbol_and_two_ids_takes_the_fuller_whatever_the_order():
    first = names(("MATR3", CD3D)), np.array([4])
    second = names(("MATR3", LYZ)), np.array([6])
    for samples in ([first, second], [second, first]):
        assert choose_genes(samples, 1, 10).gene_id.tolist() == [LYZ]


def test_choose_genes_refuses_to_choose_none():
    with pytest.raises(
        ValueError, match=r"no gene is expressed in 7 cells.*Lower vocab.*min_cells"
    ):
        choose_genes([(names(("LYZ", LYZ)), np.array([6]))], 7, 10)


def test_vocabulary_sha256_is_that_of_the_symbols_in_order():
    """printf 'CD3D\\nLYZ\\nMS4A1' | sha256sum"""
    expected = "69aa08be02c35a3c"
    assert vocabulary_sha256(VOCABULARY).startswith(expected)
    assert vocabulary_sha256(VOCABULARY[::-1]) != vocabulary_sha256(VOCABULARY)
    assert vocabulary_sha256(VOCABULARY.assign(gene_id="")) == vocabulary_sha256(VOCABULARY)


def test_match_genes_by_id_first_then_by_symbol():
    """An id wins over a symbol that says something else; a known symbol helps an unknown id."""
    found = names(
        ("LYZ", CD3D), ("MS4A1", "ENSG00000000009"), ("LYZ", ""), ("X", ""), ("", "ENSG8")
    )
    match = match_genes(found, VOCABULARY)
    assert match.index.tolist() == [0, 2, 1, -1, -1]
    assert (match.by_id, match.by_symbol, match.matched) == (1, 2, 3)
    assert match.unmatched == ["X", "ENSG8"]
    assert match.measured.tolist() == [0, 1, 2]
    assert match.summary()["share_of_vocabulary"] == 1
    assert match.summary()["unmatched"] == 2


def test_match_genes_ignores_versions_and_an_empty_id():
    match = match_genes(gene_names(var([LYZ + ".99", "no gene", LYZ + ".99_PAR_Y"])), VOCABULARY)
    assert match.index.tolist() == [1, -1, 1]
    assert match.measured.tolist() == [1]


def test_align_orders_columns_and_adds_up_those_of_one_gene():
    """File: LYZ, unknown, CD3D, LYZ again. Vocabulary: CD3D, LYZ, MS4A1."""
    match = match_genes(names(("LYZ", ""), ("X", ""), ("CD3D", ""), ("", LYZ)), VOCABULARY)
    counts = sparse.csr_matrix(np.array([[1.0, 2, 4, 8], [0, 3, 0, 5]]))
    before = counts.toarray()
    assert align(counts, match).toarray().tolist() == [[4, 9, 0], [0, 5, 0]]
    assert (counts.toarray() == before).all()


@given(st.integers(0, 9999), st.integers(1, 6), st.integers(1, 12), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_align_loses_no_count_of_a_known_gene(seed, n_cells, n_genes, n_vocabulary):
    """And permuted columns give the same matrix."""
    rng = np.random.default_rng(seed)
    vocabulary = pd.DataFrame({"symbol": [f"G{number}" for number in range(n_vocabulary)]})
    vocabulary["gene_id"] = ""
    symbols = [f"G{number}" for number in rng.integers(0, n_vocabulary + 2, n_genes)]
    found = names(*((symbol, "") for symbol in symbols))
    counts = rng.poisson(1.0, (n_cells, n_genes)).astype(np.float64)
    aligned = align(sparse.csr_matrix(counts), match_genes(found, vocabulary))
    for number in range(n_vocabulary):
        columns = [column for column, name in enumerate(symbols) if name == f"G{number}"]
        assert (aligned.toarray()[:, number] == counts[:, columns].sum(axis=1)).all()
    order = rng.permutation(n_genes)
    permuted = match_genes(found.iloc[order].reset_index(drop=True), vocabulary)
    again = align(sparse.csr_matrix(counts[:, order]), permuted)
    assert (again.toarray() == aligned.toarray()).all()
    assert again.has_sorted_indices
