from pathlib import Path

import pandas as pd
import pytest

from scbert.genes.cell_types import (
    describe_types,
    in_vocabulary,
    read_marker_types,
    read_markers,
    types_by_name,
)

HEADER = "species\tofficial gene symbol\tcell type\torgan\n"
ROOT = Path(__file__).parents[2]


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


@pytest.fixture
def table(tmp_path):
    def write(*lines):
        path = tmp_path / "ontology.tsv"
        columns = "cell_type", "ontology_term_id", "parent", "parent_ontology_term_id"
        path.write_text("\n".join("\t".join(line) for line in (columns, *lines)) + "\n")
        return path

    return write


def test_describe_types_looks_up_ids_and_parents(table):
    path = table(("CD4 T", "CL:0000624", "T cell", "CL:0000084"), ("B", "CL:0000236", "", ""))
    assert describe_types(["B", "CD4 T", "new"], [path]) == [
        {
            "name": name,
            "ontology_term_id": term,
            "parent": parent,
            "parent_ontology_term_id": parent_term,
        }
        for name, term, parent, parent_term in (
            ("B", "CL:0000236", "B", "CL:0000236"),
            ("CD4 T", "CL:0000624", "T cell", "CL:0000084"),
            ("new", "unknown", "new", "unknown"),
        )
    ]


def test_describe_types_without_a_table_or_parents(tmp_path):
    assert describe_types(["B"], []) == [{"name": "B", "ontology_term_id": "unknown"}]
    path = tmp_path / "t.tsv"
    path.write_text("cell_type\tontology_term_id\nB\tCL:0000236\n")
    assert describe_types(["B"], [path]) == [{"name": "B", "ontology_term_id": "CL:0000236"}]


def test_a_type_may_be_the_parent_of_others(table):
    """Cells that are labelled only 'T cell' stand on the parents' level already."""
    path = table(("CD4 T", "x", "T cell", "CL:0000084"), ("T cell", "CL:0000084", "", ""))
    assert [entry["parent"] for entry in describe_types(["CD4 T", "T cell"], [path])] == [
        "T cell",
        "T cell",
    ]


def test_three_levels_are_refused(table):
    path = table(("CD4 T", "x", "T cell", "y"), ("T cell", "y", "lymphocyte", "z"))
    with pytest.raises(ValueError, match="parent of 'CD4 T' is 'T cell', whose own parent is"):
        describe_types(["CD4 T"], [path])


def test_a_type_that_stands_there_twice_is_refused(table):
    path = table(("B", "x", "", ""), ("B", "y", "", ""))
    with pytest.raises(ValueError, match="lists 'B' twice"):
        describe_types(["B"], [path])


def test_a_parent_with_two_ids_is_refused(table):
    path = table(("CD4 T", "x", "T cell", "CL:1"), ("CD8 T", "y", "T cell", "CL:2"))
    with pytest.raises(ValueError, match="parent 'T cell' the ids CL:1, CL:2"):
        describe_types(["CD4 T"], [path])


def test_the_embedded_table_joins_the_t_cells():
    path = ROOT / "config/ontology/pbmc68k_reduced.tsv"
    names = ["CD4+/CD25 T Reg", "CD8+ Cytotoxic T", "CD34+", "Dendritic"]
    found = {entry["name"]: entry["parent"] for entry in describe_types(names, [path])}
    assert found == {
        "CD4+/CD25 T Reg": "T cell",
        "CD8+ Cytotoxic T": "T cell",
        "CD34+": "CD34+",
        "Dendritic": "dendritic cell",
    }
