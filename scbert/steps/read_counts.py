"""Rule read_counts: a file of cells -> checked counts. Needs no torch.

Counts are an AnnData with X (cells, genes) raw counts, CSR float32; obs library_size (all counts of
the cell), n_genes, for a dataset cell_type and batch, for a sample of PanglaoDB its cluster and
cell_type, which are not labels; var symbol, gene_id and n_cells (cells kept that express the gene).
Beside them stand the decision, its numbers and the warnings.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from scbert.cells.cautions import Caution, by_code, say
from scbert.cells.learned_labels import rare_types
from scbert.cells.quality import UnusableSample, describe_quality, require_usable
from scbert.cells.read import write_cells
from scbert.cells.samples import (
    BesideCounts,
    Reading,
    add_clusters,
    nothing_read,
    read_panglaodb,
    read_sample,
)
from scbert.cells.splits import FEWEST
from scbert.config import Dataset, ReadSettings
from scbert.files import JsonObject, require_sha256, sha256_of, write_json

log = logging.getLogger(__name__)
PANGLAODB = ".RData"  # the suffix of its samples


def read_counts(
    cells: Path,
    counts: Path,
    quality: Path,
    settings: ReadSettings,
    clusters: Sequence[Path] = (),
    annotations: Sequence[Path] = (),
    cell_table: Sequence[Path] = (),
    types: Sequence[Path] = (),
    sha256: str = "",
    cell_table_sha256: str = "",
) -> None:
    """Read a file of cells, check it, and write its counts and what was done to them.

    Parameters
    ----------
    counts, quality
        The .h5ad and the JSON file to write.
    clusters, annotations
        PanglaoDB's files, one or none of each.
    cell_table
        More columns of obs, or nothing; see `with_cell_table`.
    types
        Common names of cell types, or nothing; see `read_types`.
    sha256, cell_table_sha256
        What the files must have; empty: any.

    Raises
    ------
    ValueError
        If the file cannot be read, is not the one that its table means (sha256), or its content
        cannot be used; nothing is written then. With settings.leave_out, content that cannot be
        used is not an error: no cell is written, and the reason is.
    """
    require_sha256(cells, sha256)
    for table in cell_table:
        require_sha256(table, cell_table_sha256)
    if cells.suffix == PANGLAODB:
        read = partial(_read_panglaodb, cells, settings, clusters, annotations)
    else:
        beside = BesideCounts(next(iter(cell_table), None), next(iter(types), None))
        read = partial(read_sample, cells, settings, beside=beside)
    found = _check(read, cells, settings)
    write_cells(counts, found.kept)
    names = {"sample": settings.sample, "source": settings.source, "sha256": sha256_of(cells)}
    written = found.decision() | _numbers(found.reading, found.kept, settings)
    write_json(quality, names | written)
    log.info("%s: %s", settings.sample, _said(written))


def _read_panglaodb(
    cells: Path, settings: ReadSettings, clusters: Sequence[Path], annotations: Sequence[Path]
) -> Reading:
    reading = read_panglaodb(cells, settings.counts.max_rdata_gb)
    add_clusters(reading, settings.sample, clusters, annotations)
    return reading


@dataclass(frozen=True)
class _Checked:
    """What was read, the cells of it that are kept, and how many go for which reason.

    `reason` says why no cell is used; empty: some are.
    """

    reading: Reading
    kept: ad.AnnData
    dropped: dict[str, int]
    reason: str

    def decision(self) -> JsonObject:
        """Return its line in the table of quality."""
        used = "left out" if self.reason else "used"
        return {"decision": used, "reason": self.reason, "dropped": self.dropped}


def _check(read: Callable[[], Reading], file: Path, settings: ReadSettings) -> _Checked:
    """Read a file, and choose the cells to keep: none of a sample that is to be left out."""
    reading, reason, is_panglaodb = nothing_read(), "", file.suffix == PANGLAODB
    dropped: dict[str, int] = {}
    try:
        reading = read()
        keep, dropped = _usable(reading, settings, is_panglaodb=is_panglaodb)
    except UnusableSample as error:
        if not settings.leave_out:
            named = file.name in str(error)
            raise UnusableSample(str(error) if named else f"{file}: {error}") from error
        reason, keep = str(error), np.zeros(reading.cells.n_obs, dtype=bool)
    kept = reading.cells if keep.all() else reading.cells[keep].copy()
    kept.var["n_cells"] = kept.X.getnnz(axis=0)
    return _Checked(reading, kept, dropped, reason)


def _usable(
    reading: Reading, settings: ReadSettings, *, is_panglaodb: bool
) -> tuple[np.ndarray, dict[str, int]]:
    """Return which cells stay, shape (cells,), and how many go why; warn of rare types."""
    if is_panglaodb:
        require_usable(reading.cells.X, reading.cells.var, settings.counts, settings.sample)
    keep, dropped = _keep(reading.cells.obs, settings)
    if settings.dataset:
        rare = _check_types(reading.cells.obs.cell_type[keep], settings.dataset)
        say(rare, settings.sample, log)
        reading.cautions.extend(rare)
    return keep, dropped


def _keep(obs: pd.DataFrame, settings: ReadSettings) -> tuple[np.ndarray, dict[str, int]]:
    """Return which cells stay, shape (cells,), and how many go for which reason."""
    min_genes = settings.counts.min_genes
    few_genes = (obs.n_genes < min_genes).to_numpy()
    unlabelled = (obs.cell_type == "").to_numpy() if settings.dataset else np.zeros(len(obs), bool)
    reasons = {
        f"fewer than {min_genes} expressed genes": int(few_genes.sum()),
        "no cell type": int((unlabelled & ~few_genes).sum()),
    }
    keep = ~few_genes & ~unlabelled
    if not keep.any():
        key = settings.dataset.label_key if settings.dataset else ""
        advice = "Lower counts.min_genes or give other cells."
        if unlabelled.all():
            advice = (
                f"No cell has a type in obs['{key}']: name the column of the types (label_key)."
            )
        elif unlabelled.any():
            advice = f"Lower counts.min_genes, fill in obs['{key}'], or give other cells."
        why = ", ".join(f"{reason}: {n:,}" for reason, n in reasons.items())
        raise UnusableSample(
            f"none of the {len(obs)} cells is left ({why}; median {obs.n_genes.median():.0f} "
            f"expressed genes). {advice}"
        )
    return keep, {reason: n for reason, n in reasons.items() if n}


def _numbers(reading: Reading, kept: ad.AnnData, settings: ReadSettings) -> JsonObject:
    """Return the numbers for the table of quality: of the cells kept, or of all if none is."""
    shown = kept if kept.n_obs else reading.cells
    return {
        "matrix": reading.matrix,
        "scale": reading.scale,
        "cells_read": reading.cells.n_obs,
        "cells_kept": kept.n_obs,
        **describe_quality(shown.X, shown.var, settings.counts),
        "batches": kept.obs.batch.nunique() if "batch" in kept.obs else 0,
        "cell_types": _count(kept.obs.cell_type) if settings.dataset else {},
        "notes": reading.notes,
        "warnings": by_code(reading.cautions),
    }


def _said(written: JsonObject) -> str:
    """Put the most important of these numbers into a sentence."""
    if not written["cells_kept"]:
        return f"left out: {written['reason']}"
    said = (
        f"{written['cells_kept']:,} of {written['cells_read']:,} cells kept, "
        f"{written['genes']:,} genes; {written['matrix']} holds {written['scale']}; a cell has "
        f"{written['median_counts']:,.0f} counts of {written['median_genes']:,.0f} genes (medians)"
    )
    types = listed(written["cell_types"])
    dropped = listed(written["dropped"])
    said += f". Cells left out: {dropped}" if dropped else ""
    return f"{said}. Cells per type: {types}" if types else said


def _check_types(cell_type: pd.Series, dataset: Dataset) -> list[Caution]:
    """Name types that are too rare to be held out; refuse a dataset of one type.

    Whole batches are held out with any types that they have.
    """
    if cell_type.nunique() < 2:
        raise ValueError(
            f"all cells of {dataset.file} have the type '{cell_type.iloc[0]}' in "
            f"obs['{dataset.label_key}'], but at least two types are needed to tell apart. Name "
            "the column of the types (label_key), or write the file again if it is damaged."
        )
    counts = {str(name): int(n) for name, n in cell_type.value_counts().items()}
    rare = {name: n for name, n in counts.items() if n < FEWEST}
    if not rare or dataset.batch_key:
        return []
    return [rare_types(rare, FEWEST)]


def listed(counts: dict[str, int]) -> str:
    """Return counts as they are said in the log."""
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def _count(values: pd.Series) -> dict[str, int]:
    return {str(name): int(n) for name, n in values.value_counts().items()}
