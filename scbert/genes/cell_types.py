"""Names of cell types: their Cell Ontology ids and parents, and known marker genes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from scbert.genes.matching import match_genes
from scbert.tables import read_table

UNKNOWN_TERM = "unknown"  # as CELLxGENE writes it
COLUMNS = ("cell_type", "ontology_term_id")
PARENT, PARENT_TERM = "parent", "parent_ontology_term_id"
ABBREVIATIONS = {  # of labels, in words of the list
    "dc": "dendritic",
    "mdc": "dendritic",
    "pdc": "plasmacytoid dendritic",
    "mono": "monocyte",
    "mk": "megakaryocyte",
    "reg": "regulatory",
    "treg": "t regulatory",
}
SPECIES = "Hs"  # as PanglaoDB writes it; models know human genes


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
    table = read_table(path, *COLUMNS).map(str.strip)
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


def read_markers(path: Path) -> dict[str, list[str]]:
    """Read PanglaoDB's list of markers: for each cell type the human genes, in the file's order.

    Raises
    ------
    ValueError
        If the columns species, official gene symbol or cell type are missing, or no human gene
        is there.
    """
    table = read_table(path, "species", "official gene symbol", "cell type")
    human = table[table.species.str.split().map(lambda names: SPECIES in names)]
    if human.empty:
        raise ValueError(
            f"{path} has no line with {SPECIES} (human) under species; there are "
            f"{', '.join(sorted(set(table.species))[:5]) or 'no lines'}. Give PanglaoDB's list of "
            "markers, complete."
        )
    of_type = human.groupby("cell type", sort=True)["official gene symbol"]
    return {str(name): list(dict.fromkeys(genes)) for name, genes in of_type}


def read_marker_types(path: Path, marker_types: Iterable[str]) -> dict[str, str]:
    """Read a user's table: columns cell_type (a label) and marker_cell_type (as PanglaoDB has it).

    Raises
    ------
    ValueError
        If a label is there twice, or the list of markers does not have the type.
    """
    table = read_table(path, "cell_type", "marker_cell_type").map(str.strip)
    twice = table.cell_type[table.cell_type.duplicated()]
    if len(twice):
        raise ValueError(f"{path} names '{twice.iloc[0]}' twice. Keep one line for each label.")
    known = set(marker_types)
    strange = [name for name in table.marker_cell_type if name not in known]
    if strange:
        raise ValueError(
            f"{path} names the type '{strange[0]}', which the list of markers does not have; "
            f"it has {', '.join(sorted(known)[:5])}, ... Write it as the list of markers does."
        )
    return dict(zip(table.cell_type, table.marker_cell_type, strict=True))


def types_by_name(labels: Sequence[str], marker_types: Iterable[str]) -> dict[str, str]:
    """Return the type of the marker list that a label names, for the labels that name one.

    Letters' case, a plural s, the word cell and usual abbreviations make no difference: "B cell"
    and "b" mean "B cells", "DC" means "Dendritic cells". Nor does the order of words: "memory B" is
    "B cells memory". Else the last words count, as many as name a type: "CD8 T" is a kind of
    "T cells".
    """
    known = list(marker_types)
    by_words = {frozenset(_words(name)): name for name in known}
    by_name = {tuple(_words(name)): name for name in known}  # of two, the order decides
    found = {}
    for label in labels:
        words = tuple(_words(label))
        tails = [by_name[words[n:]] for n in range(len(words)) if words[n:] in by_name]
        whole = by_name.get(words) or by_words.get(frozenset(words))
        if whole or tails:
            found[label] = whole or tails[0]
    return found


def _words(name: str) -> list[str]:
    words = [word.removesuffix("s") for word in name.casefold().replace("_", " ").split()]
    long = " ".join(ABBREVIATIONS.get(word, word) for word in words if word != "cell")
    return long.split()


def in_vocabulary(
    sets: Mapping[str, Sequence[str]], vocabulary: pd.DataFrame
) -> dict[str, list[str]]:
    """Return sets of genes under the vocabulary's symbols; genes that it lacks are dropped.

    Previous symbols and aliases are recognised, as in `match_genes`.
    """
    found: dict[str, list[str]] = {}
    for name, genes in sets.items():
        unique = list(dict.fromkeys(genes))
        match = match_genes(pd.DataFrame({"symbol": unique, "gene_id": ""}), vocabulary)
        known = dict.fromkeys(match.index[match.index >= 0].tolist())
        found[name] = [str(vocabulary.symbol.iloc[number]) for number in known]
    return found
