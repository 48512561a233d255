"""PanglaoDB's clusters and their cell types (Franzen et al. 2019): for information, never a label.

Clusters are Seurat's, cell types PanglaoDB's guess for a whole cluster from its markers.
"""

from pathlib import Path

import pandas as pd

ANNOTATION_COLUMNS = (
    *("sra", "srs", "cluster", "cell_type", "p_value", "adjusted_p_value", "activity_score"),
)


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
    sra, _, srs = sample.partition("_")
    types = _read_annotations(annotations)
    of_sample = types[(types.sra == sra) & (types.srs == srs)]
    type_of = of_sample.drop_duplicates("cluster").set_index("cluster").cell_type
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


def _read_annotations(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(
            path,
            header=None,
            names=list(ANNOTATION_COLUMNS),
            dtype=str,
            na_values=["\\N"],
            keep_default_na=False,
            index_col=False,
        )
    except (ValueError, pd.errors.ParserWarning) as error:
        raise ValueError(
            f"{path} is not PanglaoDB's table of cell types ({error}): {len(ANNOTATION_COLUMNS)} "
            "columns separated by commas are needed. Download it again."
        ) from error
