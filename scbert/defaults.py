"""The configuration of the commands: config/config.yaml, and what a file or an option changes."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from scbert.config import Config, default_config_file, load_config


def load_defaults(file: Path | None, changes: Mapping[str, object]) -> Config:
    """Return the configuration that is embedded, changed by a YAML file and then by `changes`.

    Raises
    ------
    ValueError
        If the file is no YAML of keys and values, or a value is not allowed.
    """
    values = _read_yaml(default_config_file())
    if file is not None:
        values = _updated(values, _read_yaml(file))
    return load_config(_updated(values, changes))


def _read_yaml(path: Path) -> dict[str, object]:
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML ({error}). Correct it.") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} holds {type(values).__name__}, but sections with keys and values are needed, "
            "as in config/config.yaml."
        )
    return values


def _updated(values: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """Return `values` with single ones changed, however deep."""
    updated = dict(values)
    for key, new in changes.items():
        old = values.get(key)
        updated[key] = (
            _updated(old, new) if isinstance(new, dict) and isinstance(old, dict) else new
        )
    return updated
