"""Models that come with the package: an encoder to start from, and one that names blood cells.

A copy of the repository also has an encoder that has seen no study on which the benchmark tests.
"""

import logging
from pathlib import Path

ENCODER = "encoder"
BENCHMARK_ENCODER = "encoder_for_benchmarks"
BLOOD = "blood"

log = logging.getLogger(__name__)


def shipped_models() -> dict[str, Path]:
    """Return the folders of the models that are here, by name."""
    here = Path(__file__).parent
    return {path.name: path for path in sorted(here.iterdir()) if (path / "config.json").is_file()}


def model_folder(given: str | Path) -> Path:
    """Return the folder that is meant: a model that exists, or one of the package by its name.

    A model of your own in ./blood goes before the package's, with a warning; any other folder of
    that name does not.
    """
    path, shipped = Path(given), shipped_models()
    own = (path / "MANIFEST.sha256").is_file()
    if str(given) not in shipped:
        return path
    if own:
        log.warning(
            "the model in ./%s is used, not that of the package; its folder is %s",
            *(given, shipped[str(given)]),
        )
    return path if own else shipped[str(given)]
