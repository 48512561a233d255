"""Top genes of a type beside known sets and markers: are there more of them than by chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, hypergeom

from scbert.explain.rankings import Ranking
from scbert.genes.cell_types import in_vocabulary, read_marker_types, read_markers, types_by_name
from scbert.genes.gene_sets import read_gene_sets
from scbert.training.saved_model import FinetunedModel

MOST_GENES = 500  # of a gene set: larger ones say little


@dataclass(frozen=True)
class MarkersAndSets:
    """Markers and sets under the vocabulary's symbols; `marker_types` says what a label means."""

    markers: dict[str, list[str]]
    marker_types: dict[str, str]
    gene_sets: dict[str, list[str]]


def read_known_genes(
    model: FinetunedModel,
    markers: Sequence[Path],
    marker_types: Sequence[Path],
    gene_sets: Sequence[Path],
) -> MarkersAndSets:
    """Read the files that are given; each list may be empty.

    Parameters
    ----------
    markers, marker_types
        PanglaoDB's list of markers and a table of labels, at most one each.
    """
    found = {name: genes for path in markers for name, genes in read_markers(path).items()}
    if marker_types and not found:
        raise ValueError(
            f"{marker_types[0]} names cell types of a list of markers, but no list is given: "
            "--marker-types needs --markers. Give both."
        )
    named = types_by_name(model.types, found)
    for path in marker_types:
        named |= read_marker_types(path, found)
    sets: dict[str, list[str]] = {}
    for path in gene_sets:
        read = read_gene_sets(path, MOST_GENES)
        sets |= {f"{path.stem}: {name}": genes for name, genes in read.items()}
    return MarkersAndSets(
        in_vocabulary(found, model.genes), named, in_vocabulary(sets, model.genes)
    )


def enrichment(
    top: Sequence[int] | np.ndarray,
    universe: Sequence[int] | np.ndarray,
    symbols: np.ndarray,
    sets: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """Count the top genes in sets of genes, and how probable so many are by chance.

    Parameters
    ----------
    top
        Numbers of the genes at the top; all are in the universe.
    universe
        Numbers of the genes that could have been there: those that were ranked.
    symbols
        Shape (V,).

    Returns
    -------
    A row for each set that has a gene of the universe: gene_set, set_genes (in the universe),
    top_genes, overlap, genes (which, by rank), p: the hypergeometric probability of this overlap
    or a larger one (Fisher's exact test, one-sided).
    """
    among = set(symbols[np.asarray(universe, dtype=int)])
    best = symbols[np.asarray(top, dtype=int)].tolist()
    rows = []
    for name, genes in sets.items():
        present = among.intersection(genes)
        if present:
            shared = [gene for gene in best if gene in present]
            rows.append((name, len(present), len(best), len(shared), " ".join(shared)))
    columns = ["gene_set", "set_genes", "top_genes", "overlap", "genes"]
    table = pd.DataFrame(rows, columns=columns)
    table = table.astype({"set_genes": int, "top_genes": int, "overlap": int})  # also without rows
    table["p"] = hypergeom.sf(
        table.overlap - 1, len(among), table.set_genes, table.top_genes
    ).astype(float)
    return table


def enrichment_of_types(
    ranking: Ranking,
    types: Sequence[str],
    symbols: np.ndarray,
    sets: Mapping[str, Sequence[str]],
    n_top: int,
) -> pd.DataFrame:
    """Return `enrichment` of the top genes of each type, with p adjusted over all rows.

    Benjamini and Hochberg 1995: adjusted_p is the false discovery rate among rows at least as
    small.
    """
    tables = [
        enrichment(
            ranking.top(number, n_top), np.flatnonzero(ranking.rank[number]), symbols, sets
        ).assign(cell_type=name)
        for number, name in enumerate(types)
    ]
    table = pd.concat(tables, ignore_index=True)
    table["adjusted_p"] = false_discovery_control(table.p) if len(table) else table.p
    table.insert(0, "method", ranking.method)
    return table


def markers_of_types(
    table: pd.DataFrame, named: Mapping[str, str], max_adjusted_p: float
) -> pd.DataFrame:
    """Keep of each method and type the marker set of its own name, and the best of all.

    Parameters
    ----------
    table
        `enrichment_of_types` of the sets of markers.
    named
        The set that a type is named after, where one is known.
    max_adjusted_p
        The best of all is kept only up to here: something is always best, also among noise.

    Returns
    -------
    The rows with a column matched_by: name, or best, the set with the smallest p. The best is a
    finding: that it is the type at hand, nobody said.
    """
    is_named = table.cell_type.map(named).eq(table.gene_set)
    best = table.p.eq(table.groupby(["method", "cell_type"]).p.transform("min"))
    is_best = best & ~table[best].duplicated(["method", "cell_type"]).reindex(
        table.index, fill_value=True
    )
    is_best &= table.adjusted_p.le(max_adjusted_p)
    kept = table.assign(matched_by=np.where(is_named, "name", "best"))
    return kept[is_named | is_best].reset_index(drop=True)


def count_found(markers: pd.DataFrame, n_types: int, max_adjusted_p: float) -> pd.DataFrame:
    """Count the types whose markers are found among their top genes.

    Parameters
    ----------
    markers
        `markers_of_types`.

    Returns
    -------
    A row for each method: method, own (types whose own set has an adjusted p up to the limit),
    named (types that have an own set), any (types with any such set) and types.
    """
    rows = []
    for method, of_method in markers.groupby("method", sort=False):
        own = of_method[of_method.matched_by == "name"]
        found = of_method[of_method.adjusted_p <= max_adjusted_p]
        rows.append(
            {
                "method": method,
                "own": int((own.adjusted_p <= max_adjusted_p).sum()),
                "named": len(own),
                "any": found.cell_type.nunique(),
                "types": n_types,
            }
        )
    return pd.DataFrame(rows, columns=["method", "own", "named", "any", "types"])
