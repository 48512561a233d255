"""Which features of a file are genes of the cells: not antibodies, guides, peaks nor spike-ins.

The same rule for every format. What is left out is not part of a cell's library either.
"""

import logging
import re
from dataclasses import replace

import numpy as np
import pandas as pd

from scbert.cells.matrix import Parts

log = logging.getLogger(__name__)
TYPE_COLUMNS = ("feature_types", "feature_type", "modality", "feature_biotype")
GENE_TYPES = ("gene expression", "gex", "rna")
OTHER_TYPES = (
    *("antibody capture", "crispr guide capture", "multiplexing capture", "custom", "peaks"),
    *("antigen capture", "vdj", "vdj-t", "vdj-b", "adt", "hto", "atac", "protein", "spike-in"),
)
SPIKE_IN = re.compile(r"^ERCC[-_]\d{5}$", re.IGNORECASE)  # ERCC1 to ERCC8 are genes
ANTIBODY = re.compile(r"([_-]TotalSeq[A-D]?$)|(^(ADT|HTO)[_-])|([_-](ADT|PROT)$)", re.IGNORECASE)


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
