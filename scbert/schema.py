"""Write config.schema.yaml, by which editors check config.yaml: python -m scbert.schema FILE."""

import sys
from pathlib import Path

import yaml

from scbert.config import Config
from scbert.files import write_text


def schema_text() -> str:
    """Return the JSON schema of the configuration, as YAML."""
    head = "# Made by `make schema` from scbert/config/: do not edit.\n"
    return head + yaml.safe_dump(Config.model_json_schema(), sort_keys=True, width=100)


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), schema_text())
