import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scbert.cells.read import gene_names
from scbert.genes.matching import (
    align,
    match_genes,
    read_vocabulary,
    require_match,
    species_of,
    vocabulary_sha256,
)

CD3D, MS4A1, LYZ = "ENSG00000167286", "ENSG00000156738", "ENSG00000090382"
VOCABULARY = pd.DataFrame({"symbol": ["CD3D", "LYZ", "MS4A1"], "gene_id": [CD3D, LYZ, ""]})
WITH_ALIASES = VOCABULARY.assign(aliases=["T3D", "LZM", "CD20|B1|MS4A2"], ambiguous=["", "", "S7"])


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


def test_read_vocabulary_refuses_a_symbol_with_two_numbers(tmp_path):
    (tmp_path / "v.tsv").write_text("symbol\tgene_id\nLYZ\t\nCD3D\t\nLYZ\t\n")
    with pytest.raises(ValueError, match=r"v.tsv has the symbol 'LYZ' twice"):
        read_vocabulary(tmp_path / "v.tsv")


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


def test_match_genes_takes_an_older_name_where_the_file_gives_no_id():
    """CD20 with an id that is not MS4A1's is a gene that was called CD20 by mistake."""
    found = names(("CD20", ""), ("T3D", "ENSG00000000009"), ("LYZ", LYZ), ("S7", ""), ("X", ""))
    match = match_genes(found, WITH_ALIASES)
    assert match.index.tolist() == [2, -1, 1, -1, -1]
    assert (match.by_id, match.by_symbol, match.by_alias, match.matched) == (1, 0, 1, 2)
    assert match.unmatched == ["T3D", "S7", "X"]
    assert match.ambiguous == ["S7"]
    summary = match.summary()
    assert (summary["matched_by_alias"], summary["ambiguous"], summary["missing"]) == (1, 1, 1)
    assert summary["ambiguous_examples"] == ["S7"]


def test_match_genes_takes_no_alias_of_a_gene_that_the_file_has_under_its_own_name():
    """The file tells LYZ and LZM apart, so they are two genes; two aliases alone are one gene."""
    match = match_genes(names(("LZM", ""), ("LYZ", ""), ("CD20", ""), ("B1", "")), WITH_ALIASES)
    assert match.index.tolist() == [-1, 1, 2, 2]
    assert match.unmatched == ["LZM"]
    by_id = match_genes(names(("LZM", ""), ("", LYZ)), WITH_ALIASES)
    assert by_id.index.tolist() == [-1, 1]


def test_match_genes_without_aliases_knows_no_other_names():
    assert match_genes(names(("CD20", ""), ("LYZ", "")), VOCABULARY).index.tolist() == [-1, 1]


@pytest.mark.parametrize("mouse", ["Cd3d", "cd3d", "Lyz", "Ms4a1", "Cd20"])
def test_match_genes_never_takes_a_mouse_gene_for_a_human_one(mouse):
    assert match_genes(names((mouse, "")), WITH_ALIASES).matched == 0


def test_match_genes_takes_no_symbol_with_the_id_of_another_species():
    """C3 is also a gene of the mouse, in capitals there, too."""
    assert match_genes(names(("LYZ", "ENSMUSG00000024164")), VOCABULARY).matched == 0


def test_share_of_counts_is_that_of_known_genes():
    """Counts 6 of LYZ, 2 of a gene that is unknown."""
    match = match_genes(names(("LYZ", ""), ("X", "")), VOCABULARY)
    assert match.share_of_counts(sparse.csr_matrix([[4.0, 2], [2, 0]])) == 0.75
    assert match.share_of_counts(sparse.csr_matrix((0, 2))) is None


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


def test_symbols_as_r_writes_them_are_known():
    vocabulary = pd.DataFrame({"symbol": ["HLA-DRA", "MT-CO1", "A-B", "A.B"], "gene_id": [""] * 4})
    written = names(("HLA.DRA", ""), ("MT.CO1", ""), ("A.B", ""))
    assert match_genes(names(("HLA_DRA", ""), ("MT_CO1", "")), vocabulary).index.tolist() == [0, 1]
    match = match_genes(written, vocabulary)
    assert match.index.tolist() == [0, 1, 3]
    there = match_genes(names(("HLA.DRA", ""), ("HLA-DRA", "")), vocabulary)
    assert there.index.tolist() == [-1, 0]


def test_symbols_without_dashes_are_known_where_they_mean_one_gene():
    symbols = ["HLA-DRA", "TRAV1-1", "A-BC", "AB-C", "X-Y", "XY", "S-7", "T-3D"]
    vocabulary = pd.DataFrame({"symbol": symbols, "gene_id": [""] * 8})
    vocabulary = vocabulary.assign(aliases=["T3D", *[""] * 7], ambiguous=["S7", *[""] * 7])
    asked = ["HLADRA", "TRAV11", "ABC", "XY", "S7", "T3D"]
    match = match_genes(names(*((name, "") for name in asked)), vocabulary)
    assert match.index.tolist() == [0, -1, -1, 5, -1, 0]  # T3D is an alias of HLA-DRA
    assert match_genes(names(("HLADRA", ""), ("HLA-DRA", "")), vocabulary).index.tolist() == [-1, 0]
    assert match_genes(names(("HLADRA", LYZ)), vocabulary).index.tolist() == [-1]


def test_ids_and_symbols_that_contradict_are_counted():
    genes = names(("CD3D", LYZ), ("LYZ", LYZ), ("MS4A1", CD3D), ("NEW", ""))
    match = match_genes(genes, VOCABULARY)
    assert match.index.tolist() == [1, 1, 0, -1]
    assert match.paired == 3
    assert match.contradicting == ["CD3D with the id of LYZ", "MS4A1 with the id of CD3D"]
    assert match.summary()["contradicting"] == 2


def test_names_of_mouse_genes_are_told_as_such():
    vocabulary = pd.DataFrame({"symbol": ["CD3E", "LYZ"], "gene_id": ["", ""]})
    for written in (names(("Xkr4", ""), ("Cd8b1", "")), names(("ENSMUSG00000051951", ""))):
        with pytest.raises(ValueError, match="They look like genes of a mouse: give the human"):
            require_match(match_genes(written, vocabulary), vocabulary, "q.h5ad")


def test_human_genes_are_not_told_to_be_a_mouse_s():
    """All are known, but too few for a model; or some names are odd."""
    for written in (names(("CD3D", "")), names(("CD3D", ""), ("LYZ", ""), ("Xkr4", ""))):
        assert species_of(match_genes(written, VOCABULARY)) == ""
