"""Known marker genes of cell types, and which of the known types a label means."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from scbert.cells.genes import match_genes
from scbert.cells.tables import read_table

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
    table = read_table(path, "cell_type", "marker_cell_type")
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
