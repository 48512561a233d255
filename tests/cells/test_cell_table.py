"""Tables of cells and of types beside the counts."""

import bz2
import gzip
import lzma

import pandas as pd
import pytest

from scbert.cells.cell_table import (
    read_cell_table,
    read_types,
    with_cell_table,
    with_common_names,
)
from scbert.tables import read_table


def obs(*cells):
    return pd.DataFrame({"plate": "1"}, index=list(cells))


def written(tmp_path, text, name="cells.tsv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_columns_are_joined_by_the_column_that_names_the_cells(tmp_path):
    """As 10x published the types of 68,579 cells: the barcodes stand in the third column."""
    lines = "TSNE.1\tTSNE.2\tbarcodes\tcelltype\n7.5\t-7.1\tAAC-1\tCD8+ T\n-2\t1\tAAA-1\tCD56+ NK\n"
    table = read_cell_table(written(tmp_path, lines))
    found = with_cell_table(obs("AAA-1", "AAC-1", "AAG-1"), table, "the table")
    assert found.celltype.tolist() == ["CD56+ NK", "CD8+ T", ""]
    assert found.plate.tolist() == ["1", "1", "1"]


def test_commas_and_a_heading_without_the_first_name_are_read(tmp_path):
    table = read_cell_table(written(tmp_path, "type\nD28.1_1,beta\n", "cells.csv"))
    assert table.to_dict("list") == {"cell": ["D28.1_1"], "type": ["beta"]}


def test_ids_that_R_spells_otherwise_are_found_only_if_none_is_there_as_it_is():
    table = pd.DataFrame({"cell": ["A.1", "B_1"], "type": ["alpha", "beta"]})
    assert with_cell_table(obs("A-1"), table, "t").type.tolist() == ["alpha"]
    assert with_cell_table(obs("A-1", "B_1"), table, "t").type.tolist() == ["", "beta"]


def test_a_column_of_the_table_takes_the_place_of_one_of_the_file():
    table = pd.DataFrame({"cell": ["A"], "plate": ["9"]})
    assert with_cell_table(obs("A"), table, "t").plate.tolist() == ["9"]


def test_a_table_of_other_cells_is_refused():
    table = pd.DataFrame({"cell": ["Z1"], "type": ["beta"]})
    with pytest.raises(ValueError, match=r"has the columns cell, type, but none holds.*\(A, B\)"):
        with_cell_table(obs("A", "B"), table, "the table")


def test_a_cell_of_two_types_is_refused_and_a_line_that_is_there_twice_is_not():
    table = pd.DataFrame({"cell": ["A", "A"], "type": ["beta", "beta"]})
    assert with_cell_table(obs("A"), table, "t").type.tolist() == ["beta"]
    table.loc[1, "type"] = "alpha"
    with pytest.raises(ValueError, match="t names the cell 'A' 2 times"):
        with_cell_table(obs("A"), table, "t")


def test_types_that_are_not_listed_lose_their_name(tmp_path):
    path = written(tmp_path, "cell_type\tcommon\nPP\tgamma\ngamma\tgamma\n")
    written_as = pd.Series(["PP", "gamma", "mast", "mast", ""])
    labels, strange = with_common_names(written_as, read_types(path))
    assert labels.tolist() == ["gamma", "gamma", "", "", ""]
    assert strange == "mast (2)"


@pytest.mark.parametrize("line", ["PP\tdelta", "mast\t"])
def test_a_type_of_two_names_or_none_is_refused(line, tmp_path):
    path = written(tmp_path, f"cell_type\tcommon\nPP\tgamma\n{line}\n")
    with pytest.raises(ValueError, match="each type of a file needs one line and a name"):
        read_types(path)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_table_is_unpacked_by_its_content_and_refused_by_name_if_it_is_cut(tmp_path, pack):
    path, packed = tmp_path / "cells.txt", pack(b"cell\tcell_type\nc1\tB\n" * 50)
    path.write_bytes(packed)
    assert read_cell_table(path).columns.tolist() == ["cell", "cell_type"]
    path.write_bytes(packed[:-9])
    with pytest.raises(ValueError, match=r"cells\.txt is not a table of cells"):
        read_cell_table(path)
    with pytest.raises(ValueError, match=r"cells\.txt is not a table of cell, cell_type"):
        read_table(path, "cell", "cell_type")
