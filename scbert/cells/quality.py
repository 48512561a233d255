"""Quality of a sample of a corpus: whether it can be used, and the numbers that say so.

A corpus of hundreds of samples does not stop at one that holds something else than human counts:
the sample is left out, and the reason is in the table of quality.
"""

import hashlib
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.matrix import some_rows
from scbert.config import Counts
from scbert.config.cells import TRANSCRIPTOME_GENES
from scbert.tables import read_table

FEWEST_GENES = 20  # expressed, of a cell that can be known by its counts


@dataclass(frozen=True)
class SampleQuality:
    """A line of the table of quality: a file of cells; numbers are NaN where there is no cell."""

    sample: str
    source: str
    sha256: str
    decision: str  # used, or left out
    reason: str  # why it was left out
    dropped: str  # how many of its cells for which reasons
    matrix: str
    scale: str
    cells_read: float
    cells_kept: float
    genes: float
    ensembl_ids: float  # genes that have one
    species_share: float
    subset: bool  # whether it has fewer genes than a transcriptome
    fractional: float  # share of the values that are no whole numbers
    median_genes: float  # expressed genes of a cell
    median_counts: float  # counts of a cell
    notes: str
    warnings: str


class FileQuality(TypedDict):
    """Some keys of the JSON file of rule read_counts: a dataset's file, and its cells kept."""

    sample: str
    source: str
    sha256: str
    scale: str
    cells_read: int
    cells_kept: int
    genes: int
    median_genes: float  # expressed genes of a cell
    median_counts: float  # counts of a cell
    cell_types: dict[str, int]  # cells of each
    batches: NotRequired[int]  # earlier versions did not count them
    warnings: NotRequired[dict[str, str]]  # by code


def cell_sums(counts: sparse.csr_matrix) -> np.ndarray:
    """Return the counts of each cell, shape (cells,)."""
    return counts @ np.ones(counts.shape[1])  # in float64, also of float32 counts


def count_copies(counts: sparse.csr_matrix) -> int:
    """Return how many cells have the very counts of a cell before them.

    Cells of fewer than 20 expressed genes are not looked at: two may be alike by chance.
    """
    counts = counts.sorted_indices() if not counts.has_sorted_indices else counts
    seen, copies = set[bytes](), 0
    for start, stop in zip(counts.indptr[:-1], counts.indptr[1:], strict=True):
        if stop - start < FEWEST_GENES:
            continue
        genes, values = counts.indices[start:stop], counts.data[start:stop]
        digest = hashlib.blake2b(genes.tobytes() + values.tobytes(), digest_size=16).digest()
        copies += digest in seen
        seen.add(digest)
    return copies


class UnusableSample(ValueError):
    """The file is whole, but what it holds cannot be used."""


def read_quality(path: Path) -> list[SampleQuality]:
    """Read the table of quality, a line for each file of cells."""
    columns = {one.name: one.type for one in fields(SampleQuality)}
    table = read_table(path, *columns)
    for name, kind in columns.items():
        if kind is float:
            table[name] = table[name].replace("", "nan").astype(float)  # of a sample without cells
    table["subset"] = table.subset == "True"
    return [SampleQuality(*row) for row in table[[*columns]].itertuples(index=False)]


def require_usable(
    matrix: sparse.csr_matrix, names: pd.DataFrame, settings: Counts, sample: str
) -> None:
    """Refuse a sample without cells, of another species, or without counts.

    Parameters
    ----------
    matrix
        Shape (cells, genes); stored zeros are gone.
    names
        Symbol and gene_id of each gene, from `gene_names`.

    Raises
    ------
    UnusableSample
        With the number that decided.
    """
    if not matrix.shape[0] or not matrix.nnz:
        raise UnusableSample(
            f"{sample} holds no counts: it has {matrix.shape[0]} cells and {matrix.shape[1]} genes."
        )
    share = species_share(names, settings.ensembl_prefix)
    if share < 0.5:
        raise UnusableSample(
            f"only {share:.0%} of the {len(names)} genes of {sample} "
            f"({', '.join(names.symbol[:3])}, ...) are of the species with Ensembl ids "
            f"{settings.ensembl_prefix}... (counts.ensembl_prefix). Give cells of that species."
        )
    if matrix.data.min() < 0:
        raise UnusableSample(
            f"{sample} holds negative values (lowest {matrix.data.min():.3g}), as scaled data do. "
            "Give raw counts."
        )
    share = fractional_levels(matrix)
    if share > settings.max_fractional:
        raise UnusableSample(
            f"{share:.0%} of the different values of a cell of {sample} are not whole numbers "
            f"(counts.max_fractional: {settings.max_fractional:.0%}): these are not counts, but "
            "normalised expression. Give raw counts."
        )


def species_share(names: pd.DataFrame, prefix: str) -> float:
    """Return the share of genes of a species: by Ensembl id or, where there is none, by symbol.

    Symbols can tell man (all capitals, but for C1orf112 and the like) from mouse (Cd3d) only.
    """
    if names.empty:
        return 0.0
    by_id = len(re.findall(rf"^{re.escape(prefix)}\d+$", "\n".join(names.gene_id), re.MULTILINE))
    without_id = names.symbol[names.gene_id == ""]
    by_symbol = sum(
        prefix != "ENSG" or symbol.replace("orf", "ORF", 1).isupper() for symbol in without_id
    )
    return (by_id + by_symbol) / len(names)


def fractional_share(matrix: sparse.csr_matrix) -> float:
    """Return which share of the expressed values are not whole numbers."""
    fractions = np.count_nonzero(matrix.data != np.rint(matrix.data))
    return int(fractions) / matrix.nnz if matrix.nnz else 0.0


def fractional_levels(matrix: sparse.csr_matrix) -> float:
    """Return which share of the different values of a cell are not whole numbers.

    Counts repeat few numbers, and in PanglaoDB one fraction per cell; normalised expression has a
    fraction for each count. Over up to 200 cells with at least two values, evenly spread: the
    median.
    """
    filled = np.flatnonzero(np.diff(matrix.indptr) >= 2)
    if not filled.size:
        return 0.0
    shares = []
    for cell in some_rows(filled):
        levels = np.unique(matrix.data[matrix.indptr[cell] : matrix.indptr[cell + 1]])
        shares.append(np.mean(levels != np.rint(levels)))
    return float(np.median(shares))


def describe_quality(
    matrix: sparse.csr_matrix, names: pd.DataFrame, settings: Counts
) -> dict[str, float | int | bool | None]:
    """Return the numbers of a sample for the table of quality; `matrix` holds the cells kept."""
    return {
        "genes": matrix.shape[1],
        "ensembl_ids": int((names.gene_id != "").sum()),
        "species_share": species_share(names, settings.ensembl_prefix),
        "subset": matrix.shape[1] < TRANSCRIPTOME_GENES,
        "fractional": fractional_share(matrix),
        "median_genes": _median(np.diff(matrix.indptr)),
        "median_counts": _median(cell_sums(matrix)),
    }


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None
