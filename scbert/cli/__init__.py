"""The command line: one AnnData at a time. The workflow's door is Snakemake.

Each command is a module; torch, which takes seconds to import, is imported when a command runs.
"""

from scbert.cli import annotate, convert, explain  # noqa: F401  they register themselves
from scbert.cli.app import app

__all__ = ["app"]
