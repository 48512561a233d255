"""The vocabulary: which genes the model knows, chosen from the corpus or given as a list."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from scbert.cells.read import gene_names
from scbert.genes.matching import GeneMatch, KnownGenes, match_genes
from scbert.genes.symbols import SEPARATOR

VOCABULARY_COLUMNS = (
    "symbol",
    "gene_id",
    "gene_type",
    "aliases",
    "ambiguous",
    "n_cells",
    "n_samples",
)
MAX_GENES = 65_535  # uint16 in the token store


def count_genes(
    samples: Iterable[tuple[pd.DataFrame, np.ndarray]], table: pd.DataFrame
) -> pd.DataFrame:
    """Count in how many cells and samples each gene is expressed.

    Parameters
    ----------
    samples
        For each sample its genes (from `gene_names`) and how many of its cells express each, shape
        (genes,). Of several columns that are one gene, the fullest counts: how many cells express
        either is not known.
    table
        Genes, as `read_gene_table` or `listed_genes` returns them.

    Returns
    -------
    The columns of a vocabulary, one line for each gene of the samples; genes that the table does
    not know are there under the name that the file gives them, with an empty gene_type.

    Raises
    ------
    ValueError
        If there is no sample.
    """
    known_genes = KnownGenes(table)
    total: list[pd.DataFrame] = []  # one table, so that memory does not grow with the samples
    for names, n_cells in samples:
        row = known_genes.match(names).index
        counted = pd.concat([*total, _count_sample(names, n_cells, row, table)])
        sums = {"symbol": "first", "gene_id": "first", "n_cells": "sum", "n_samples": "sum"}
        total = [counted.groupby(level=0, sort=False).agg(sums)]
    if not total:
        raise ValueError("the corpus has no sample, so no gene was seen. Add one (corpus).")
    known = table.set_index("symbol")[["gene_type", "aliases", "ambiguous"]]
    counted = total[0].join(known).fillna({"gene_type": "", "aliases": "", "ambiguous": ""})
    return counted[list(VOCABULARY_COLUMNS)]


def _count_sample(
    names: pd.DataFrame, n_cells: np.ndarray, row: np.ndarray, table: pd.DataFrame
) -> pd.DataFrame:
    """Count the cells of one sample; the index is the table's symbol, else the file's id or name.

    No clash: a file's symbol without an id that the table has is the table's gene.
    """
    known = row >= 0
    genes = names.reset_index(drop=True)
    genes["symbol"] = genes.symbol.where(genes.symbol != "", genes.gene_id)
    for column in ("symbol", "gene_id"):
        genes.loc[known, column] = table[column].to_numpy()[row[known]]
    identity = genes.symbol.where(known | (genes.gene_id == ""), genes.gene_id).rename("identity")
    genes = genes.assign(n_cells=n_cells, n_samples=(n_cells > 0).astype(int)).set_index(identity)
    genes = genes[genes.symbol.to_numpy() != ""].sort_values(
        "n_cells", ascending=False, kind="stable"
    )
    return genes[~genes.index.duplicated()]


def choose_vocabulary(
    counted: pd.DataFrame,
    gene_types: Sequence[str],
    min_cells: int,
    min_samples: int,
    max_genes: int,
) -> pd.DataFrame:
    """Choose the genes that the model knows.

    Parameters
    ----------
    counted
        From `count_genes`.
    gene_types
        HGNC's locus types that are taken; none: every gene, also those that HGNC does not know.
    min_cells, min_samples
        Cells, over all samples, that must express a gene, and samples with such a cell.
    max_genes
        If more are left, those that most cells express are kept (ties: the first by symbol).

    Returns
    -------
    The columns of a vocabulary, sorted by symbol, as ASCII.

    Raises
    ------
    ValueError
        If no gene is left.
    """
    of_type = counted.gene_type.isin(gene_types) if gene_types else counted.symbol != ""
    often = (counted.n_cells >= min_cells) & (counted.n_samples >= min_samples)
    genes = counted[of_type & often]
    if genes.empty:
        raise ValueError(
            f"of the {len(counted)} genes of the corpus {of_type.sum()} are of the types "
            f"{', '.join(gene_types) or 'any'}, but no gene is expressed in {min_cells} cells and "
            f"{min_samples} sample(s). Lower vocabulary.min_cells or vocabulary.min_samples, add "
            "cells, or leave vocabulary.gene_types empty."
        )
    genes = genes.sort_values(["n_cells", "symbol", "gene_id"], ascending=[False, True, True])
    genes = genes.drop_duplicates("symbol").head(max_genes)
    return genes.sort_values("symbol").reset_index(drop=True)


def listed_genes(names: Sequence[str], table: pd.DataFrame) -> tuple[pd.DataFrame, GeneMatch]:
    """Look up the genes of a list, which may be of any age; their order and names stay.

    Parameters
    ----------
    names
        Symbols or Ensembl ids; an id gets the symbol that the table has for it.
    table
        From `read_gene_table`.

    Returns
    -------
    The first five columns of a vocabulary, and how the names were recognised. The approved symbol
    of a gene that is listed under an older name becomes one of its aliases. Of two names for one
    gene, the approved or else the first has it; the other is a gene of its own.

    Raises
    ------
    ValueError
        If the list is empty, too long, or has a gene twice.
    """
    listed = gene_names(pd.DataFrame(index=list(names)))
    match = match_genes(listed, table)
    row = np.where(pd.Series(match.index).duplicated(), -1, match.index)
    known = row >= 0
    genes = pd.DataFrame("", index=range(len(listed)), columns=list(VOCABULARY_COLUMNS[:5]))
    genes["gene_id"] = listed.gene_id
    genes.loc[known] = table[genes.columns].to_numpy()[row[known]]
    approved = genes.symbol.copy()
    of_id = np.where(match.index >= 0, table.symbol.to_numpy()[match.index], listed.gene_id)
    genes["symbol"] = listed.symbol.where(listed.symbol != "", of_id)
    _check_list(genes.symbol)
    genes["aliases"] = _without(approved + SEPARATOR + genes.aliases, set(genes.symbol))
    genes["ambiguous"] = _without(genes.ambiguous, set(genes.symbol))
    return genes, match


def _without(joined: pd.Series, taken: set[str]) -> list[str]:
    """Leave out of each line of names those that are taken."""
    taken = taken | {""}
    return [
        SEPARATOR.join(name for name in names.split(SEPARATOR) if name not in taken)
        for names in joined
    ]


def _check_list(symbols: pd.Series) -> None:
    if not 0 < len(symbols) <= MAX_GENES:
        raise ValueError(
            f"the list has {len(symbols)} genes, but a vocabulary has 1 to {MAX_GENES}. Give one "
            "symbol or Ensembl id per line (vocabulary.genes)."
        )
    twice = symbols[symbols.duplicated()]
    if len(twice):
        raise ValueError(
            f"the list has '{twice.iloc[0]}' twice (again as gene {twice.index[0] + 1}), but each "
            "gene has one number. Remove one of the lines (vocabulary.genes)."
        )
