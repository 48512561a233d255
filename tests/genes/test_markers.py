import pandas as pd
import pytest

from scbert.genes.cell_types import in_vocabulary, read_marker_types, read_markers, types_by_name

HEADER = "species\tofficial gene symbol\tcell type\torgan\n"


@pytest.fixture
def markers(tmp_path):
    path = tmp_path / "markers.tsv"
    lines = ["Mm Hs\tMS4A1\tB cells\tBlood", "Hs\tCD79A\tB cells\tBlood", "Mm\tMusOnly\tB cells\tx"]
    path.write_text(HEADER + "\n".join([*lines, "Mm Hs\tNKG7\tNK cells\tBlood"]) + "\n")
    return path


def test_read_markers_takes_the_genes_of_man(markers):
    assert read_markers(markers) == {"B cells": ["MS4A1", "CD79A"], "NK cells": ["NKG7"]}


def test_read_markers_refuses_a_list_without_human(tmp_path):
    path = tmp_path / "markers.tsv"
    path.write_text(HEADER + "Mm\tMs4a1\tB cells\tBlood\n")
    with pytest.raises(ValueError, match=r"no line with Hs \(human\) under species; there are Mm"):
        read_markers(path)


KNOWN = [
    *("B cells", "B cells memory", "NK cells", "T cells", "T regulatory cells", "Monocytes"),
    *("Dendritic cells", "Plasmacytoid dendritic cells", "Gamma delta T cells"),
]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("b cell", "B cells"),
        ("NK", "NK cells"),
        ("memory B", "B cells memory"),  # another order
        ("CD8 T", "T cells"),  # a kind of
        ("Naive CD4 T", "T cells"),
        ("gamma delta T", "Gamma delta T cells"),  # not the shorter T cells
        ("CD14+ Mono", "Monocytes"),
        ("DC", "Dendritic cells"),
        ("pDC", "Plasmacytoid dendritic cells"),
        ("CD4+/CD25 T Reg", "T regulatory cells"),
    ],
)
def test_types_by_name_sees_what_a_label_means(label, expected):
    assert types_by_name([label], KNOWN) == {label: expected}


def test_types_by_name_leaves_out_what_names_no_type():
    assert types_by_name(["Platelet", "CD34+", "T cell doublets", ""], KNOWN) == {}


def test_read_marker_types_takes_the_users_word(tmp_path):
    path = tmp_path / "types.tsv"
    path.write_text("cell_type\tmarker_cell_type\nCD19+ B\tB cells\n")
    assert read_marker_types(path, ["B cells"]) == {"CD19+ B": "B cells"}
    with pytest.raises(ValueError, match="names the type 'B cells', which the list of markers"):
        read_marker_types(path, ["T cells"])
    path.write_text("cell_type\tmarker_cell_type\nB\tB cells\nB\tB cells\n")
    with pytest.raises(ValueError, match="names 'B' twice"):
        read_marker_types(path, ["B cells"])


def test_in_vocabulary_knows_older_names():
    vocabulary = pd.DataFrame(
        {"symbol": ["JCHAIN", "MS4A1"], "gene_id": "", "aliases": ["IGJ", ""], "ambiguous": ""}
    )
    assert in_vocabulary({"B": ["IGJ", "MS4A1", "XYZ"]}, vocabulary) == {"B": ["JCHAIN", "MS4A1"]}
