"""Rule fetch_mtx: bring a 10x folder here, from an archive or file by file."""

import logging
import shutil
from pathlib import Path

from scbert.config import SourceSettings
from scbert.download.archives import PARTS, require_matrix_market, unpack_mtx
from scbert.download.download import GB, NotPublished, accept_all, download_source
from scbert.files import publish

log = logging.getLogger(__name__)


def fetch_mtx(folder: Path, settings: SourceSettings) -> None:
    """Bring a 10x folder (matrix, barcodes, genes) here, from an archive or file by file.

    Raises
    ------
    ValueError
        If it could not be downloaded, or is not such a folder.
    """
    if settings.source.endswith("/"):
        _fetch_files(folder, settings)
        return
    archive = folder.with_name(folder.name + ".tar.gz")  # stays: folders are removed before a rerun
    download_source(settings.source, archive, settings, accept_all)
    with publish(folder) as unfinished:
        try:
            unpack_mtx(archive, unfinished, settings.download.max_gb * GB)
        except ValueError as error:
            raise ValueError(f"{archive}, from {settings.source}: {error}.") from error


def _fetch_files(folder: Path, settings: SourceSettings) -> None:
    if settings.sha256:
        raise ValueError(
            f"{settings.source} is a folder of three files, which have no common sha256. Leave the "
            "column sha256 empty; each file is recorded in the log of checksums."
        )
    staging = folder.parent / ".unfinished" / folder.name  # outlives a kill
    names = [_fetch_first(staging, part, settings) for part in PARTS]
    with publish(folder) as unfinished:
        unfinished.mkdir()
        for name in names:
            (staging / name).replace(unfinished / name)
    shutil.rmtree(staging)


def _fetch_first(staging: Path, part: str, settings: SourceSettings) -> str:
    """Download one of the three files under the first of its names that the site has."""
    check = require_matrix_market if part == "matrix" else accept_all
    # Every folder has files of these names, so that a dropped one could be of another.
    how = settings.download.model_copy(update={"drop_in": ""})
    settings = settings.model_copy(update={"download": how})
    for name in PARTS[part]:
        url = settings.source.partition("#")[0] + name
        try:
            download_source(url, staging / name, settings, check)
        except NotPublished:
            log.info("%s: not there", url)
        else:
            return name
    raise ValueError(
        f"{settings.source} has none of {', '.join(PARTS[part])}, but a 10x folder needs one. "
        "Check the address in a browser."
    )
