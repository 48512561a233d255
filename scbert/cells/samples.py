"""From one file of cells to counts, whatever it held before.

PanglaoDB's clusters and their cell types (Franzen et al. 2019) are for information, never a label.
"""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.amounts import Amounts, amounts_of, in_steps
from scbert.cells.batches import clean_batches
from scbert.cells.cautions import Caution, say
from scbert.cells.cell_table import read_cell_table, read_types, with_cell_table, with_common_names
from scbert.cells.choose import Chosen
from scbert.cells.how_to_read import ALL_GENES, HowToRead, Wanted
from scbert.cells.labels import clean_labels, repeated_cells
from scbert.cells.quality import cell_sums, count_copies
from scbert.cells.query import open_query
from scbert.cells.read import gene_names, require_column
from scbert.cells.recover import recover_counts, require_integers
from scbert.cells.scale import Scale
from scbert.config import Dataset, ReadSettings
from scbert.download.panglaodb import read_cell_types

log = logging.getLogger(__name__)


def join_clusters(
    cells: pd.Index, sample: str, clusters: Path, annotations: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Look up the cluster of each cell and the cell type of its cluster.

    Parameters
    ----------
    cells
        SAMPLE_BARCODE of each cell.
    sample
        SRA_SRS.
    clusters
        Lines `BARCODE CLUSTER`; an empty file: PanglaoDB has published none for this sample.
    annotations
        cell_type_annotations.txt.

    Returns
    -------
    Columns cluster and cell_type, empty where unknown ("Unknown" is PanglaoDB's own word and
    stays), and what should be known about them.

    Raises
    ------
    ValueError
        If a file is not such a table.
    """
    cluster_of = _read_clusters(clusters)
    type_of = _types_of(annotations, sample)
    cluster = pd.Series(cells.str.removeprefix(f"{sample}_"), index=cells).map(cluster_of)
    found = pd.DataFrame({"cluster": cluster, "cell_type": cluster.map(type_of)})
    notes = []
    if len(cluster_of) and cluster.isna().all():
        notes = [
            f"None of the {len(cluster_of)} barcodes of {clusters.name} is among the "
            f"{len(cells)} cells."
        ]
    return found.astype(object).where(found.notna(), ""), notes


def _read_clusters(path: Path) -> pd.Series:
    lines = [line.split() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    wrong = next((line for line in lines if len(line) != 2), None)
    if wrong is not None:
        raise ValueError(
            f"{path} holds the line '{' '.join(wrong)}', but a barcode and a cluster are needed. "
            "Download it again."
        )
    table = pd.Series(dict(lines), dtype=object)
    if len(table) != len(lines):
        raise ValueError(f"{path} lists a barcode twice, in {len(lines)} lines. Download it again.")
    return table


def _types_of(annotations: Path, sample: str) -> dict[str, str]:
    """Return the cell type of each cluster of a sample, where it is known."""
    table = read_cell_types(annotations)
    own = table[table.sra + "_" + table.srs == sample].dropna(subset="cell_type")
    own = own.drop_duplicates("cluster")
    return dict(zip(own.cluster, own.cell_type, strict=True))


@dataclass
class Reading:
    """The counts of a file, and how they were come by.

    `cells` has X (cells, genes), CSR float32; obs library_size, n_genes and what the file says of
    the cells; var symbol and gene_id.
    """

    cells: ad.AnnData
    matrix: str
    scale: str
    notes: list[str]
    cautions: list[Caution] = field(default_factory=list)


def nothing_read() -> Reading:
    """Return what is known of a file without counts: no cells and no genes."""
    obs = pd.DataFrame({"library_size": [], "n_genes": []}, index=pd.Index([], dtype=object))
    var = pd.DataFrame({"symbol": [], "gene_id": []}, index=pd.Index([], dtype=object))
    empty = sparse.csr_matrix((0, 0), dtype=np.float32)
    return Reading(ad.AnnData(empty, obs, var.astype(object)), "none", "no counts", [])


def read_panglaodb(path: Path, max_gb: float) -> Reading:
    """Read a sample of PanglaoDB: counts by definition, though some are fractions.

    Raises
    ------
    UnusableSample, ValueError
        As `read_rdata`.
    """
    from scbert.cells.r_files import read_rdata  # noqa: PLC0415  of the workflow's dependencies

    cells = read_rdata(path, max_gb)
    cells.obs["library_size"] = cell_sums(cells.X)
    cells.obs["n_genes"] = np.diff(cells.X.indptr)
    return Reading(cells, "sm", "raw counts", [])


def add_clusters(
    reading: Reading, sample: str, clusters: Sequence[Path], annotations: Sequence[Path]
) -> None:
    """Add PanglaoDB's cluster and cell type to obs, where there are files of them."""
    for file, table in zip(clusters, annotations, strict=True):
        found, notes = join_clusters(reading.cells.obs_names, sample, file, table)
        reading.cells.obs = reading.cells.obs.join(found)
        reading.notes += notes


@dataclass(frozen=True)
class BesideCounts:
    """Tables beside the counts of a dataset, see `with_cell_table` and `read_types`."""

    cells: Path | None = None
    types: Path | None = None


NO_TABLES = BesideCounts()


def read_sample(
    path: Path,
    settings: ReadSettings,
    wanted: Wanted = ALL_GENES,
    beside: BesideCounts = NO_TABLES,
) -> Reading:
    """Read counts from a file of cells, or take log-normalised expression back to them.

    Parameters
    ----------
    wanted
        The genes that the matrix is to have, see `HowToRead`.
    beside
        Tables that hold columns of obs and names of types, for a dataset.

    Raises
    ------
    ValueError
        If it holds neither, or lacks a column that the table of datasets names.
    """
    name, dataset = str(path), settings.dataset
    key = dataset.library_size_key if dataset else ""
    table = read_cell_table(beside.cells) if beside.cells else pd.DataFrame()
    own = [column for column in _needed(dataset) if column not in table]
    reading = HowToRead(settings.matrix, settings.scale, key, wanted)
    usual = settings.normalization.target_sum
    with (
        tempfile.TemporaryDirectory() as folder,
        open_query(path, reading, Path(folder), name, columns=own) as query,
    ):
        chosen, given = query.chosen, query.obs
        amounts = amounts_of(chosen.parts, given, reading, name, usual=usual)
        matrix, library = _counts(chosen.parts.read(0, len(query)), amounts, usual)
    obs = pd.DataFrame(
        {"library_size": library, "n_genes": matrix.getnnz(axis=1)}, index=given.index
    )
    cautions, notes = list(amounts.cautions), list[str]()
    if beside.cells:
        given = with_cell_table(given, table, str(beside.cells))
    if dataset:
        labels, of_labels, notes = _labels(given, dataset, name, beside.types)
        obs, cautions = obs.join(labels), [*cautions, *of_labels, *_copies(matrix)]
    say(cautions, name, log)
    return Reading(
        cells=ad.AnnData(matrix.astype(np.float32), obs=obs, var=_var(chosen.genes)),
        matrix=chosen.found,
        scale=_said(amounts.scale),
        notes=[*notes, *_notes(chosen)],
        cautions=cautions,
    )


def _needed(dataset: Dataset | None) -> list[str]:
    """Return the columns of obs that say what is to be learned."""
    return [key for key in (dataset.label_key, dataset.batch_key) if key] if dataset else []


def _copies(matrix: sparse.csr_matrix) -> list[Caution]:
    copies = count_copies(matrix)
    return [repeated_cells(copies, matrix.shape[0])] if copies else []


def _var(genes: pd.DataFrame) -> pd.DataFrame:
    return gene_names(genes).set_index(genes.index.astype(str).rename(None))


def _said(scale: Scale) -> str:
    return f"{scale}, taken back to counts" if scale.kind == "log1p" else str(scale)


def _notes(chosen: Chosen) -> list[str]:
    """Say which features and matrices were not taken."""
    left_out = [f"Left out: {chosen.left_out}."] if chosen.left_out else []
    return left_out + ([f"Matrices: {chosen.why}."] if chosen.why else [])


def _counts(
    matrix: sparse.csr_matrix, amounts: Amounts, usual: float
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return whole counts, or expected ones, and all counts of each cell."""
    scale, library = amounts.scale, amounts.library
    if scale.kind != "log1p":
        if scale.kind == "counts" and matrix.dtype.kind == "f":
            np.round(matrix.data, out=matrix.data)  # without a copy in float64
            matrix.eliminate_zeros()
        return matrix, cell_sums(matrix) if library is None else library
    if amounts.by_step:
        require_integers(in_steps(scale.linear(matrix)), scale)
        return amounts.of(matrix, slice(None))
    return recover_counts(matrix, scale, amounts.library, usual)


def _labels(
    obs: pd.DataFrame, dataset: Dataset, name: str, types: Path | None
) -> tuple[pd.DataFrame, list[Caution], list[str]]:
    """Return cell_type and perhaps batch, cautions, and notes on the table of common names."""
    column = require_column(obs, dataset.label_key, name)
    labels, cautions = clean_labels(column, dataset.label_key)
    columns, notes = {"cell_type": labels}, list[str]()
    if dataset.batch_key:
        given = require_column(obs, dataset.batch_key, name)
        batch, of_batches = clean_batches(given, labels, dataset.batch_key, name)
        columns["batch"] = batch
        cautions += of_batches
    if types is not None:
        columns["cell_type"], notes = _common(labels, types)
    return pd.DataFrame(columns), cautions, notes


def _common(labels: pd.Series, table: Path) -> tuple[pd.Series, list[str]]:
    """Return labels by their common names, and which types have none."""
    found, strange = with_common_names(labels, read_types(table))
    return found, [f"Types that {table} does not list: {strange}."] if strange else []
