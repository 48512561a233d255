"""Steps fetch_dataset and fetch_mtx: bring cells or genes here, from a package or the network."""

import importlib.util
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from scbert.cells.archives import PARTS, require_matrix_market, unpack_mtx
from scbert.cells.download import GB, NotPublished, accept_all, download
from scbert.cells.received import HDF5
from scbert.config import SourceSettings
from scbert.config.sources import PACKAGE
from scbert.files import publish, sha256_of

log = logging.getLogger(__name__)


def fetch_dataset(target: Path, settings: SourceSettings) -> None:
    """Bring one file here: what an installed package ships (package:NAME/FILE), or http(s)://.

    Raises
    ------
    ValueError
        If the file is not there, could not be downloaded or is not what its name says.
    """
    if settings.source.startswith(PACKAGE):
        _copy_from_package(settings.source, target)
        return
    check = _require_text if target.suffix == ".csv" else _require_hdf5
    _download(settings.source, target, settings, check)


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
    _download(settings.source, archive, settings, accept_all)
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
            _download(url, staging / name, settings, check)
        except NotPublished:
            log.info("%s: not there", url)
        else:
            return name
    raise ValueError(
        f"{settings.source} has none of {', '.join(PARTS[part])}, but a 10x folder needs one. "
        "Check the address in a browser."
    )


def _download(
    url: str, target: Path, settings: SourceSettings, check: Callable[[Path], object]
) -> None:
    how = settings.download
    download([url], target, how, name=url, check=check, sha256=settings.sha256)


def _require_hdf5(path: Path) -> None:
    with path.open("rb") as handle:
        start = handle.read(len(HDF5))
    if start != HDF5:
        raise ValueError(f"it is not an HDF5 file such as .h5ad or .h5 (it starts with {start!r})")


def _require_text(path: Path) -> None:
    with path.open("rb") as handle:
        line = handle.readline(1 << 20)
    if b"\0" in line or b"," not in line:
        raise ValueError(f"it is not a CSV file (it starts with {line[:40]!r})")


def _copy_from_package(source: str, target: Path) -> None:
    name, _, inside = source.removeprefix(PACKAGE).partition("/")
    if not name.isidentifier():
        raise ValueError(
            f"{source}: '{name}' is not the name of a package. Write package:NAME/FILE, with a "
            "file inside that package."
        )
    spec = importlib.util.find_spec(name)  # does not import it
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"{source}: the package '{name}' is not installed. Do: pip install {name}."
        )
    root = Path(spec.submodule_search_locations[0]).resolve()
    file = (root / inside).resolve()
    if not file.is_relative_to(root) or not file.is_file():
        raise ValueError(
            f"{source}: the package '{name}' has no file '{inside}'. "
            "Name a file inside that package."
        )
    with publish(target) as unfinished:
        shutil.copyfile(file, unfinished)
    log.info("%s: %d bytes, sha256 %s", source, target.stat().st_size, sha256_of(target))
