"""Tables beside the counts of a dataset: what is known of its cells, and common names of types.

Authors who publish counts as a matrix publish types and donors as a table of their own, in which
the cells may be spelled otherwise: R writes `D28.1_1` for `D28-1_1`.
"""

import logging
import re
from pathlib import Path

import pandas as pd

from scbert.files import DAMAGE, open_decompressed
from scbert.tables import read_table

log = logging.getLogger(__name__)
CELL = "cell"  # the column whose name R leaves out
PUNCTUATION = re.compile(r"[^0-9A-Za-z]+")


def read_cell_table(path: Path) -> pd.DataFrame:
    """Read a table of cells as text, separated by tabs or else by commas; plain or .gz.

    Raises
    ------
    ValueError
        If it is no such table.
    """
    with open_decompressed(path) as handle:
        try:
            first = handle.readline() + handle.readline()  # the heading may be a single name
            handle.seek(0)
            separator = "\t" if b"\t" in first else ","
            table = pd.read_csv(handle, sep=separator, dtype=str, keep_default_na=False)
        except (ValueError, *DAMAGE) as error:
            raise ValueError(
                f"{path} is not a table of cells ({error}). Give a line for each cell and names of "
                "columns in the first line, separated by tabs or commas."
            ) from error
    if not isinstance(table.index, pd.RangeIndex):  # as R writes it: the first has no name
        table = table.rename_axis(CELL).reset_index()
    table.columns = table.columns.str.strip()
    return table


def with_cell_table(obs: pd.DataFrame, table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Add the columns of a table of cells to obs, in whose place they stand if both have them.

    The cells are looked for in each column of the table, and the one that has most of them is
    taken. Only if none has any do letters and digits alone count.

    Parameters
    ----------
    obs
        A row for each cell; the index holds their ids.
    name
        What to call the table in errors.

    Returns
    -------
    As many rows; cells that the table lacks have empty text in its columns.

    Raises
    ------
    ValueError
        If no column of the table has any of the cells, or lines of the same cell differ.
    """
    ids, table = obs.index.astype(str), table.drop_duplicates()
    for spelled in (str, _plain):
        cells = ids.map(spelled)
        found = {key: int(table[key].map(spelled).isin(cells).sum()) for key in table}
        key = max(found, key=lambda key: found[key], default=CELL)
        if found.get(key):
            break
    else:
        raise ValueError(
            f"{name} has the columns {', '.join(table.columns)}, but none holds an id of the cells "
            f"({', '.join(ids[:3])}). Give the table of these cells."
        )
    lines = table.set_index(table[key].map(spelled))
    _require_one_line(lines.index[lines.index.isin(cells)], name)
    _require_one_line(cells, "the file of counts")
    known = lines.reindex(cells).fillna("").set_axis(obs.index)
    log.info("%s: column '%s' has %d of %d cells", name, key, found[key], len(obs))
    return obs.drop(columns=table.columns, errors="ignore").join(known)


def _require_one_line(cells: pd.Index, name: str) -> None:
    if cells.has_duplicates:
        twice = cells[cells.duplicated()][0]
        raise ValueError(
            f"{name} names the cell '{twice}' {(cells == twice).sum()} times. Each needs one line "
            "and an id of its own, also without punctuation where the table spells them otherwise."
        )


def _plain(cell: str) -> str:
    return PUNCTUATION.sub(".", str(cell))


def read_types(path: Path) -> dict[str, str]:
    """Read a table of common names: the column cell_type holds those of a file, common the others.

    Raises
    ------
    ValueError
        If it lacks a column, a type is there twice, or a name is empty.
    """
    table = read_table(path, "cell_type", "common").map(str.strip)
    nameless = (table["cell_type"] == "") | (table["common"] == "")
    wrong = table[table["cell_type"].duplicated() | nameless]
    if len(wrong):
        raise ValueError(
            f"{path} has the line '{wrong.iloc[0].cell_type}', '{wrong.iloc[0].common}', but each "
            "type of a file needs one line and a name. A type that is to be left out is not listed."
        )
    return dict(zip(table["cell_type"], table["common"], strict=True))


def with_common_names(labels: pd.Series, names: dict[str, str]) -> tuple[pd.Series, str]:
    """Return labels by their common names, empty where there is none, and which these are.

    Parameters
    ----------
    labels
        Clean ones, see `clean_labels`.
    """
    strange = labels[(labels != "") & ~labels.isin(names)].value_counts()
    said = ", ".join(f"{name} ({n:,})" for name, n in strange.items())
    return labels.map(names).fillna(""), said
