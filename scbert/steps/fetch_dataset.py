"""Rule fetch_dataset: bring a file here, from an installed package or the network."""

import importlib.util
import logging
import shutil
from pathlib import Path

from scbert.config import SourceSettings
from scbert.config.inputs import PACKAGE
from scbert.download.download import accept_all, download_source
from scbert.download.verify import HDF5
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
    check = CHECKS.get(target.suffix, accept_all)
    download_source(settings.source, target, settings, check)


def _require_hdf5(path: Path) -> None:
    with path.open("rb") as handle:
        start = handle.read(len(HDF5))
    if start != HDF5:
        raise ValueError(f"it is not an HDF5 file such as .h5ad or .h5 (it starts with {start!r})")


def _require_csv(path: Path) -> None:
    with path.open("rb") as handle:
        line = handle.readline(1 << 20)
    if b"\0" in line or b"," not in line:
        raise ValueError(f"it is not a CSV file (it starts with {line[:40]!r})")


# Of tables of genes and cells nothing is asked here: who reads them says what is wrong.
CHECKS = {".h5ad": _require_hdf5, ".h5": _require_hdf5, ".csv": _require_csv}


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
