"""PanglaoDB's clusters and their cell types (Franzen et al. 2019): for information, never a label.

Clusters are Seurat's, cell types PanglaoDB's guess for a whole cluster from its markers.
"""

from pathlib import Path

import pandas as pd

from scbert.cells.panglaodb import read_cell_types


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
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
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
