"""Steps that bring PanglaoDB here: its tables, the choice of samples, two files per sample."""

import logging
from pathlib import Path

from scbert.cells.download import NotPublished, download
from scbert.cells.panglaodb import (
    NO_SRS,
    choose_samples,
    read_cell_types,
    read_cluster_sizes,
    read_markers,
    read_metadata,
    require_clusters,
    require_rdata,
)
from scbert.cells.tables import read_table, write_table
from scbert.config import PanglaoDB, PanglaoDBSettings, SampleSettings
from scbert.files import publish

log = logging.getLogger(__name__)


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


def select_samples(
    metadata: Path, cluster_sizes: Path, exclusions: Path, samples: Path, settings: PanglaoDB
) -> None:
    """Write which samples join the corpus and, of the others, why not.

    Raises
    ------
    ValueError
        If none does.
    """
    excluded = read_table(exclusions, "accession", "reason")
    sizes = read_cluster_sizes(cluster_sizes)
    chosen = choose_samples(read_metadata(metadata), sizes, excluded, settings)
    joined = chosen[chosen.included == "yes"]
    if joined.empty:
        raise ValueError(
            f"none of the {len(chosen)} samples of {metadata} fits the settings of "
            f"corpus.panglaodb ({chosen.reason.value_counts().to_dict()}). Loosen them."
        )
    write_table(samples, chosen)
    log.info("%d of %d samples join the corpus", len(joined), len(chosen))
    log.info("they have %d of %d cells", joined.cells.sum(), chosen.cells.sum())


def fetch_panglaodb(counts: Path, settings: SampleSettings) -> None:
    """Download the counts of one sample.

    Raises
    ------
    ValueError
        If they could not be downloaded, or are not an R file.
    """
    urls = _filled_in(settings.panglaodb.urls.counts, settings.sample)
    download(
        urls,
        counts,
        settings.download,
        name=f"panglaodb/{counts.name}",
        check=require_rdata,
        dropped_as=[f"{_own_name(settings.sample)}.sparse.RData"],  # as in the bulk archive
    )


def fetch_panglaodb_clusters(clusters: Path, settings: SampleSettings) -> None:
    """Download the cluster of each cell of one sample; an empty file if none are published.

    Raises
    ------
    ValueError
        If they could not be downloaded for another reason than that every address answers 404 or
        410.
    """
    urls = _filled_in(settings.panglaodb.urls.clusters, settings.sample)
    try:
        download(
            urls,
            clusters,
            settings.download,
            name=f"panglaodb/{clusters.name}",
            check=require_clusters,
            # as in PanglaoDB's repository
            dropped_as=[f"{_own_name(settings.sample)}.seurat_clusters.txt"],
        )
    except NotPublished as error:
        with publish(clusters) as unfinished:
            unfinished.touch()
        log.warning("no clusters are published for %s: %s is empty", settings.sample, clusters)
        log.info("%s", error)


def _filled_in(addresses: tuple[str, ...], sample: str) -> list[str]:
    sra, _, srs = sample.rpartition("_")
    own = _own_name(sample)
    return [address.format(sra=sra, srs=srs, sample=own) for address in addresses]


def _own_name(sample: str) -> str:
    """Return how PanglaoDB names the files of a sample: without SRS if it has none."""
    return sample.removesuffix(f"_{NO_SRS}")
