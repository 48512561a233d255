"""Choice of the matrix and the features of a file that hold the genes of the cells.

A matrix is found by what it holds, not by its name.

`auto` takes, among layers/counts, raw.X and X, those that can be turned into counts, of these the
ones with most of the genes that are wanted, and of these raw counts rather than logarithms.
Antibodies, guides, peaks and spike-ins are no genes, nor part of a cell's library, in every format.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from scbert.cells.how_to_read import HowToRead
from scbert.cells.matrix import Parts
from scbert.cells.scale import guess_scale

log = logging.getLogger(__name__)
MATRIX_ORDER = ("layers/counts", "raw.X", "X")
USABLE = ("counts", "expected_counts", "log1p")  # the best first
AS_MANY = 0.95  # of the genes of another matrix: a filter of rare genes is no reason to prefer it
TYPE_COLUMNS = ("feature_types", "feature_type", "modality", "feature_biotype")
GENE_TYPES = ("gene expression", "gex", "rna")
OTHER_TYPES = (
    *("antibody capture", "crispr guide capture", "multiplexing capture", "custom", "peaks"),
    *("antigen capture", "vdj", "vdj-t", "vdj-b", "adt", "hto", "atac", "protein", "spike-in"),
)
SPIKE_IN = re.compile(r"^ERCC[-_]\d{5}$", re.IGNORECASE)  # ERCC1 to ERCC8 are genes
ANTIBODY = re.compile(r"([_-]TotalSeq[A-D]?$)|(^(ADT|HTO)[_-])|([_-](ADT|PROT)$)", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """A matrix of a file, not yet opened."""

    name: str
    genes: pd.DataFrame
    open: Callable[[], Parts]


@dataclass(frozen=True)
class Chosen:
    """The matrix that was chosen, its genes alone, and why.

    `why` is empty where there was nothing to choose from; `left_out` are its features that are no
    genes, in words.
    """

    found: str
    parts: Parts
    genes: pd.DataFrame
    why: str
    left_out: str


def choose_matrix(candidates: Sequence[Candidate], reading: HowToRead, name: str) -> Chosen:
    """Open the matrix that is meant.

    Raises
    ------
    ValueError
        If it does not exist, with those that do, or is damaged.
    """
    present = {one.name: one for one in candidates}
    if reading.matrix != "auto":
        if reading.matrix not in present:
            raise _not_there(reading.matrix, list(present), name)
        others = [key for key in present if key != reading.matrix]
        return _opened(present[reading.matrix], others, "")
    possible = [present[key] for key in MATRIX_ORDER if key in present]
    if not possible:
        raise _not_there("X", list(present), name)
    if len(possible) == 1:
        return _opened(possible[0], [key for key in present if key != possible[0].name], "")
    found, kinds, why = _best(possible, reading)
    useless = {key for key, kind in kinds.items() if kind not in USABLE}
    return _opened(found, [key for key in present if key not in {found.name, *useless}], why)


def _not_there(wanted: str, present: list[str], name: str) -> ValueError:
    return ValueError(
        f"{name} has no matrix '{wanted}'; it has {', '.join(present) or 'none'}. Name one of them."
    )


def _opened(found: Candidate, others: list[str], why: str) -> Chosen:
    parts, genes, left_out = only_genes(found.open(), found.genes)
    if why:
        log.info("%s was chosen: %s", parts.name, why)
    return Chosen(found.name, replace(parts, others=tuple(others)), genes, why, left_out)


def _best(possible: list[Candidate], reading: HowToRead) -> tuple[Candidate, dict[str, str], str]:
    """Return the best of several matrices, what those hold that were looked at, and the reason."""
    covered = {one.name: reading.wanted.count(one.genes) for one in possible}
    kinds: dict[str, str] = {}
    for one in possible:
        kinds[one.name] = _kind(one, reading.scale)
        if kinds[one.name] == "counts" and covered[one.name] >= AS_MANY * max(covered.values()):
            break  # none can be better
    said = [f"{one.name} has {covered[one.name]:,} {reading.wanted.called}" for one in possible]
    held = [f" and holds {kinds[one.name]}" if one.name in kinds else "" for one in possible]
    why = "; ".join(map("".join, zip(said, held, strict=True)))
    usable = [one for one in possible if kinds.get(one.name) in USABLE]
    if not usable:
        return possible[0], kinds, why
    most = max(covered[one.name] for one in usable)
    enough = [one for one in usable if covered[one.name] >= AS_MANY * most]
    return min(enough, key=lambda one: USABLE.index(kinds[one.name])), kinds, why


def _kind(candidate: Candidate, said: str) -> str:
    """Return what some cells of a matrix hold: one of USABLE, or that it cannot be used."""
    parts, _, _ = only_genes(candidate.open(), candidate.genes)
    _, some = parts.some()
    try:
        return guess_scale(some, parts.name, said).kind
    except ValueError:
        return "what cannot be turned into counts"


def only_genes(parts: Parts, genes: pd.DataFrame) -> tuple[Parts, pd.DataFrame, str]:
    """Leave out the features that are no genes.

    Returns
    -------
    The matrix and the table of the genes, and what was left out, in words; empty: nothing.

    Raises
    ------
    ValueError
        If no gene is left.
    """
    kinds = other_features(genes)
    kept = (kinds == "").to_numpy()
    if kept.all():
        return parts, genes, ""
    said = ", ".join(f"{n:,} of type {kind}" for kind, n in kinds[~kept].value_counts().items())
    if not kept.any():
        raise ValueError(
            f"{parts.name} has features {said}, but cells are named by their genes. Give a file "
            "with gene expression."
        )
    stored = np.ones(len(genes), dtype=bool) if parts.kept is None else parts.kept.copy()
    stored[stored] = kept
    log.info("%s: %d features are genes; left out are %s", parts.name, kept.sum(), said)
    shape = (parts.shape[0], int(kept.sum()))
    return replace(parts, shape=shape, kept=stored), genes[kept], said


def other_features(genes: pd.DataFrame) -> pd.Series:
    """Return what each feature is if it is no gene, as text; empty for genes."""
    names = pd.Series(genes.index.astype(str), index=range(len(genes)), dtype=object)
    kinds = pd.Series("", index=names.index, dtype=object)
    for column in TYPE_COLUMNS:
        if column in genes:
            found = pd.Series(genes[column].astype(object).to_numpy(), index=names.index)
            kinds = kinds.where(kinds != "", _other_types(found.fillna("").astype(str)))
    for pattern, kind in ((SPIKE_IN, "spike-in"), (ANTIBODY, "antibody")):
        named = np.array([bool(pattern.search(name)) for name in names], dtype=bool)
        kinds = kinds.mask(named & (kinds == ""), kind)
    return kinds


def _other_types(types: pd.Series) -> pd.Series:
    """Return the types that are no genes, where one is known to be genes all the others."""
    plain = types.str.strip().str.lower()
    is_gene = plain.isin(GENE_TYPES)
    other = ~is_gene & (plain != "") if is_gene.any() else plain.isin(OTHER_TYPES)
    return types.where(other, "")
