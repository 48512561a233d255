import numpy as np
import pandas as pd
import pytest

from scbert.genes.matching import match_genes, vocabulary_sha256
from scbert.genes.vocabulary import choose_vocabulary, count_genes, listed_genes

CD3D, MS4A1, LYZ, GAS5 = "ENSG00000167286", "ENSG00000156738", "ENSG00000090382", "ENSG00000234741"
CODING = "gene with protein product"
TABLE = pd.DataFrame(
    {
        "symbol": ["CD3D", "MS4A1", "LYZ", "GAS5"],
        "gene_id": [CD3D, MS4A1, LYZ, GAS5],
        "gene_type": [CODING, CODING, CODING, "RNA, long non-coding"],
        "aliases": ["T3D", "CD20|B1", "LZM", ""],
        "ambiguous": ["", "S7", "", "S7"],
    }
)


def names(*rows):
    return pd.DataFrame(rows, columns=["symbol", "gene_id"])


def unknown(*symbols, n_cells):
    """Count one sample whose genes no table knows."""
    return count_genes([(names(*((symbol, "") for symbol in symbols)), n_cells)], TABLE)


def choose(counted, gene_types=(), min_cells=1, min_samples=1, max_genes=10):
    return choose_vocabulary(counted, gene_types, min_cells, min_samples, max_genes)


@pytest.fixture
def counted():
    """LYZ: 3 + 4 cells, under three names. GAS5 makes no protein, XYZ is unknown."""
    samples = [
        (names(("LYZ", LYZ), ("CD3D", ""), ("GAS5", ""), ("XYZ", "")), np.array([3, 9, 5, 6])),
        (names(("", LYZ), ("CD20", ""), ("T3D", "")), np.array([4, 5, 0])),
        (names(("LZM", "")), np.array([0])),
    ]
    return count_genes(samples, TABLE)


def test_count_genes_joins_the_names_of_a_gene(counted):
    assert counted.set_index("symbol")[["n_cells", "n_samples"]].T.to_dict("list") == {
        "LYZ": [7, 2],
        "CD3D": [9, 1],
        "GAS5": [5, 1],
        "XYZ": [6, 1],
        "MS4A1": [5, 1],
    }


def test_count_genes_counts_a_gene_with_two_columns_once_per_sample():
    """How many cells express either is unknown: at least as many as express the one."""
    sample = names(("LYZ", LYZ), ("LYZ-1", LYZ), ("CD3D", CD3D)), np.array([4, 6, 3])
    found = count_genes([sample], TABLE).set_index("symbol")
    assert found.n_cells.to_dict() == {"LYZ": 6, "CD3D": 3}
    assert found.n_samples.to_dict() == {"LYZ": 1, "CD3D": 1}


def test_count_genes_takes_a_sample_without_cells():
    sample = names(("LYZ", LYZ)), np.array([0])
    assert count_genes([sample], TABLE)[["n_cells", "n_samples"]].values.tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="corpus has no sample"):
        count_genes([], TABLE)


def test_choose_genes_takes_the_types_that_are_asked_for(counted):
    assert choose(counted, (CODING,)).symbol.tolist() == ["CD3D", "LYZ", "MS4A1"]
    assert choose(counted).symbol.tolist() == ["CD3D", "GAS5", "LYZ", "MS4A1", "XYZ"]


def test_choose_genes_carries_the_other_names(counted):
    assert choose(counted, (CODING,), min_cells=5).to_dict("list") == {
        "symbol": ["CD3D", "LYZ", "MS4A1"],
        "gene_id": [CD3D, LYZ, MS4A1],
        "gene_type": [CODING] * 3,
        "aliases": ["T3D", "LZM", "CD20|B1"],
        "ambiguous": ["", "", "S7"],
        "n_cells": [9, 7, 5],
        "n_samples": [1, 2, 1],
    }


def test_choose_genes_wants_cells_and_samples(counted):
    assert choose(counted, min_cells=6).symbol.tolist() == ["CD3D", "LYZ", "XYZ"]
    assert choose(counted, min_samples=2).symbol.tolist() == ["LYZ"]


def test_choose_genes_keeps_the_most_expressed_and_breaks_ties_by_symbol():
    found = unknown("b", "B", "a", "C", n_cells=np.array([5, 5, 5, 9]))
    chosen = [choose(found, max_genes=most).symbol.tolist() for most in (1, 2, 3, 4)]
    assert chosen == [["C"], ["B", "C"], ["B", "C", "a"], ["B", "C", "a", "b"]]  # ASCII


def test_choose_genes_of_one_symbol_and_two_ids_takes_the_fuller_whatever_the_order():
    first = names(("NOVEL", "ENSG00000000001")), np.array([4])
    second = names(("NOVEL", "ENSG00000000002")), np.array([6])
    for samples in ([first, second], [second, first]):
        assert choose(count_genes(samples, TABLE)).gene_id.tolist() == ["ENSG00000000002"]


def test_choose_genes_refuses_to_choose_none(counted):
    with pytest.raises(
        ValueError,
        match=r"of the 5 genes of the corpus 3 are of the types gene with protein product, but no "
        r"gene is expressed in 10 cells.*Lower vocabulary.min_cells",
    ):
        choose(counted, (CODING,), min_cells=10)


def test_listed_genes_keeps_order_and_names():
    """printf 'MS4A1\\nT3D\\nXYZ\\nLYZ' | sha256sum; LYZ is listed by its id."""
    genes, match = listed_genes(["MS4A1", "T3D", "XYZ", LYZ + ".5"], TABLE)
    assert genes.symbol.tolist() == ["MS4A1", "T3D", "XYZ", "LYZ"]
    assert genes.gene_id.tolist() == [MS4A1, CD3D, "", LYZ]
    assert genes.aliases.tolist() == ["CD20|B1", "CD3D", "", "LZM"]
    assert (match.by_id, match.by_symbol, match.by_alias, match.unmatched) == (1, 1, 1, ["XYZ"])
    assert vocabulary_sha256(genes).startswith("8881197b6384b814")


def test_listed_genes_are_found_in_files_under_old_and_new_names():
    genes, _ = listed_genes(["T3D", "MS4A1"], TABLE)
    for found in (names(("CD3D", ""), ("CD20", "")), names(("T3D", ""), ("", MS4A1))):
        assert match_genes(found, genes).index.tolist() == [0, 1]


def test_listed_genes_gives_two_names_of_one_gene_to_the_approved_or_the_first():
    genes, _ = listed_genes(["T3D", "CD3D", "B1", "CD20"], TABLE)
    assert genes.gene_id.tolist() == ["", CD3D, MS4A1, ""]
    assert genes.aliases.tolist() == ["", "", "MS4A1", ""]


def test_listed_genes_refuses_a_list_that_is_no_vocabulary():
    with pytest.raises(ValueError, match=r"has 'LYZ' twice \(again as gene 3\)"):
        listed_genes(["LYZ", "XYZ", LYZ], TABLE)
    with pytest.raises(ValueError, match=r"the list has 0 genes, but a vocabulary has 1 to 65535"):
        listed_genes([], TABLE)
