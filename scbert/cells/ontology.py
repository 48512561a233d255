"""The table of a dataset's cell types: Cell Ontology ids and, one level up, parents."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from scbert.cells.tables import read_table

UNKNOWN_TERM = "unknown"  # as CELLxGENE writes it
COLUMNS = ("cell_type", "ontology_term_id")
PARENT, PARENT_TERM = "parent", "parent_ontology_term_id"


def describe_types(cell_types: Sequence[str], tables: Sequence[Path]) -> list[dict[str, str]]:
    """Look each cell type up.

    Parameters
    ----------
    cell_types
        Names, as the dataset has them.
    tables
        At most one, with the columns cell_type and ontology_term_id and perhaps parent and
        parent_ontology_term_id.

    Returns
    -------
    For each cell type its "name" and "ontology_term_id"; if the table has a column parent, also
    "parent" and "parent_ontology_term_id". A type without a parent is its own.

    Raises
    ------
    ValueError
        If a type is in the table twice, or the parents are not one level.
    """
    if not tables:
        return [{"name": name, "ontology_term_id": UNKNOWN_TERM} for name in cell_types]
    path = tables[0]
    table = read_table(path, *COLUMNS)
    twice = table.cell_type[table.cell_type.duplicated()]
    if len(twice):
        raise ValueError(
            f"{path} lists '{twice.iloc[0]}' twice, but a cell type has one id and one parent. "
            "Remove a line."
        )
    term_of = dict(zip(table.cell_type, table.ontology_term_id, strict=True))
    types = [
        {"name": name, "ontology_term_id": term_of.get(name, UNKNOWN_TERM)} for name in cell_types
    ]
    if PARENT not in table.columns:
        return types
    parents = _parents(table, path)
    own = {name: (name, term_of.get(name, UNKNOWN_TERM)) for name in cell_types}
    return [
        entry | dict(zip((PARENT, PARENT_TERM), (own | parents)[entry["name"]], strict=True))
        for entry in types
    ]


def _parents(table: pd.DataFrame, path: Path) -> dict[str, tuple[str, str]]:
    """Return name and ontology id of the parent of each type that has one."""
    terms = table[PARENT_TERM] if PARENT_TERM in table.columns else [""] * len(table)
    parents = {
        name: (parent, term or UNKNOWN_TERM)
        for name, parent, term in zip(table.cell_type, table[PARENT], terms, strict=True)
        if parent
    }
    for name, (parent, _) in parents.items():
        above = parents.get(parent, (parent, ""))[0]
        if above != parent:
            raise ValueError(
                f"{path}: the parent of '{name}' is '{parent}', whose own parent is '{above}', but "
                "there are two levels only. Give both the same parent, or none to the second."
            )
    terms_of: dict[str, set[str]] = {}
    for parent, term in parents.values():
        terms_of.setdefault(parent, set()).add(term)
    for parent, found in terms_of.items():
        if len(found) > 1:
            raise ValueError(
                f"{path} gives the parent '{parent}' the ids {', '.join(sorted(found))}, but it is "
                "one type. Correct all but one."
            )
    return parents
