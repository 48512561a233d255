"""Step fetch_dataset: bring a file of cells or genes here."""

import importlib.util
import logging
import shutil
from pathlib import Path

from scbert.config import SourceSettings
from scbert.files import publish, sha256_of

log = logging.getLogger(__name__)


def fetch_dataset(target: Path, settings: SourceSettings) -> None:
    """Copy a data file that an installed package ships (package:NAME/FILE).

    Raises
    ------
    ValueError
        If the package or its file is not there.
    """
    name, _, inside = settings.source.removeprefix("package:").partition("/")
    if not name.isidentifier():
        raise ValueError(
            f"{settings.source}: '{name}' is no name of a package. Write package:NAME/FILE, with a "
            "file inside that package."
        )
    spec = importlib.util.find_spec(name)  # does not import it
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"{settings.source}: the package '{name}' is not installed. Do: pip install {name}."
        )
    root = Path(spec.submodule_search_locations[0]).resolve()
    source = (root / inside).resolve()
    if not source.is_relative_to(root) or not source.is_file():
        raise ValueError(
            f"{settings.source}: the package '{name}' has no file '{inside}'. "
            "Name a file inside that package."
        )
    with publish(target) as unfinished:
        shutil.copyfile(source, unfinished)
    log.info("%s: %d bytes, sha256 %s", settings.source, target.stat().st_size, sha256_of(target))
