"""Models that come with the package: an encoder to start from, and one that names blood cells."""

from pathlib import Path

ENCODER = "encoder"
BLOOD = "blood"


def shipped_models() -> dict[str, Path]:
    """Return the folders of the models that are here, by name."""
    here = Path(__file__).parent
    return {path.name: path for path in sorted(here.iterdir()) if (path / "config.json").is_file()}


def model_folder(given: str | Path) -> Path:
    """Return the folder that is meant: one that exists, or a model of the package by its name."""
    path = Path(given)
    return path if path.exists() else shipped_models().get(str(given), path)
