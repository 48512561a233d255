"""Rule fetch_panglaodb_clusters: the cluster of each cell of one sample."""

import logging
from pathlib import Path

from scbert.config import SampleSettings
from scbert.download.download import NotPublished, download
from scbert.download.panglaodb import _own_name, addresses_of, require_clusters
from scbert.files import publish

log = logging.getLogger(__name__)


def fetch_panglaodb_clusters(clusters: Path, settings: SampleSettings) -> None:
    """Download the cluster of each cell of one sample; an empty file if none are published.

    Raises
    ------
    ValueError
        If they could not be downloaded for another reason than that every address answers 404 or
        410.
    """
    urls = addresses_of(settings.panglaodb.urls.clusters, settings.sample)
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
