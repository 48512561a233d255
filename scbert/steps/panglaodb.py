"""Steps that bring PanglaoDB here: its table, the choice of samples, one file per sample."""

import logging
from pathlib import Path

from scbert.cells.panglaodb import choose_samples, download, read_metadata, require_rdata
from scbert.cells.tables import read_table, write_table
from scbert.config import PanglaoDB, SampleSettings
from scbert.files import sha256_of

log = logging.getLogger(__name__)


def fetch_panglaodb_tables(metadata: Path, settings: PanglaoDB) -> None:
    """Download PanglaoDB's table of samples."""
    download(settings.metadata_url, metadata, settings.user_agent)
    log.info("%s: sha256 %s", settings.metadata_url, sha256_of(metadata))


def select_samples(metadata: Path, exclusions: Path, samples: Path, settings: PanglaoDB) -> None:
    """Write which samples join the corpus and, of the others, why not.

    Raises
    ------
    ValueError
        If none does.
    """
    excluded = read_table(exclusions, "accession", "reason")
    chosen = choose_samples(read_metadata(metadata), excluded, settings)
    n_included = int((chosen.included == "yes").sum())
    if n_included == 0:
        raise ValueError(
            f"none of the {len(chosen)} samples of {metadata} fits the settings of "
            f"corpus.panglaodb ({chosen.reason.value_counts().to_dict()}). Loosen them."
        )
    write_table(samples, chosen)
    log.info("%d of %d samples join the corpus", n_included, len(chosen))


def fetch_panglaodb(counts: Path, settings: SampleSettings) -> None:
    """Download the counts of one sample.

    Raises
    ------
    ValueError
        If it cannot be had, or is not an R file.
    """
    sra, srs = settings.sample.split("_")
    url = settings.panglaodb.counts_url.format(sra=sra, srs=srs)
    download(
        url,
        counts,
        settings.panglaodb.user_agent,
        check=lambda path: require_rdata(path, url, counts),
    )
    log.info("%s: %d bytes, sha256 %s", url, counts.stat().st_size, sha256_of(counts))
