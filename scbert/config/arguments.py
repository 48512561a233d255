"""The command line of the workflow's scripts."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

from scbert.config.base import Section
from scbert.logs import end_when_told, explain_user_errors, start_logging


def step_arguments(
    description: str | None,
    *paths: str,
    lists: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
    settings: type[Section] | None = None,
) -> SimpleNamespace:
    """Parse the command line of a workflow script: named paths, lists of paths, words, settings.

    `--settings` takes the section of the configuration as one JSON string. Logging starts here, and
    from here on a user's error is shown without a traceback, and SIGTERM leaves nothing
    half-written.
    """
    start_logging()
    explain_user_errors()
    end_when_told()
    parser = argparse.ArgumentParser(description=description)
    for name in paths:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True)
    for name in lists:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, nargs="*", required=True)
    for name in words:
        parser.add_argument(f"--{name.replace('_', '-')}", required=True)
    if settings is not None:
        parser.add_argument("--settings", type=json.loads, required=True)
    found = vars(parser.parse_args())
    if settings is not None:
        found["settings"] = settings.model_validate(found["settings"])
    return SimpleNamespace(**found)
