"""What is known about genes, for step explain: markers of cell types, and sets of genes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scbert.cells.gene_sets import read_gene_sets
from scbert.cells.markers import in_vocabulary, read_marker_types, read_markers, types_by_name
from scbert.training.bundle import Bundle

MOST_GENES = 500  # of a gene set: larger ones say little


@dataclass(frozen=True)
class KnownGenes:
    """Markers and sets under the vocabulary's symbols; `marker_types` says what a label means."""

    markers: dict[str, list[str]]
    marker_types: dict[str, str]
    gene_sets: dict[str, list[str]]


def read_known_genes(
    bundle: Bundle,
    markers: Sequence[Path],
    marker_types: Sequence[Path],
    gene_sets: Sequence[Path],
) -> KnownGenes:
    """Read the files that are given; each list may be empty.

    Parameters
    ----------
    markers, marker_types
        PanglaoDB's list of markers and a table of labels, at most one each.
    """
    assert bundle.labels is not None
    found = {name: genes for path in markers for name, genes in read_markers(path).items()}
    if marker_types and not found:
        raise ValueError(
            f"{marker_types[0]} says which types of a list of markers the labels mean, but no list "
            "is given. Give markers too."
        )
    named = types_by_name([label["name"] for label in bundle.labels], found)
    for path in marker_types:
        named |= read_marker_types(path, found)
    sets: dict[str, list[str]] = {}
    for path in gene_sets:
        read = read_gene_sets(path, MOST_GENES)
        sets |= {f"{path.stem}: {name}": genes for name, genes in read.items()}
    return KnownGenes(in_vocabulary(found, bundle.genes), named, in_vocabulary(sets, bundle.genes))
