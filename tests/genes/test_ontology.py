from pathlib import Path

import pytest

from scbert.genes.cell_types import describe_types

ROOT = Path(__file__).parents[2]


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
