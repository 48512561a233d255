"""Rule fetch_panglaodb_tables: PanglaoDB's tables of samples, clusters, types and markers."""

from pathlib import Path

from scbert.config import PanglaoDBSettings
from scbert.download.download import download
from scbert.download.panglaodb import (
    read_cell_types,
    read_cluster_sizes,
    read_metadata,
)
from scbert.genes.cell_types import read_markers


def fetch_panglaodb_tables(
    metadata: Path,
    cluster_sizes: Path,
    cell_types: Path,
    markers: Path,
    settings: PanglaoDBSettings,
) -> None:
    """Download PanglaoDB's tables of samples, clusters, their cell types, and marker genes."""
    urls = settings.panglaodb.urls
    for target, addresses, check in (
        (metadata, urls.metadata, read_metadata),
        (cluster_sizes, urls.cluster_sizes, read_cluster_sizes),
        (cell_types, urls.cell_types, read_cell_types),
        (markers, urls.markers, read_markers),
    ):
        name = f"panglaodb/{target.name}"
        download(addresses, target, settings.download, name=name, check=check)
