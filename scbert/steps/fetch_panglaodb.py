"""Rule fetch_panglaodb: the counts of one sample."""

from pathlib import Path

from scbert.config import SampleSettings
from scbert.download.download import download
from scbert.download.panglaodb import _own_name, addresses_of, require_rdata


def fetch_panglaodb(counts: Path, settings: SampleSettings) -> None:
    """Download the counts of one sample.

    Raises
    ------
    ValueError
        If they could not be downloaded, or are not an R file.
    """
    urls = addresses_of(settings.panglaodb.urls.counts, settings.sample)
    download(
        urls,
        counts,
        settings.download,
        name=f"panglaodb/{counts.name}",
        check=require_rdata,
        dropped_as=[f"{_own_name(settings.sample)}.sparse.RData"],  # as in the bulk archive
    )
