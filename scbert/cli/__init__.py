"""The command line: one AnnData at a time. The workflow's door is Snakemake.

Each command is a module; torch, which takes seconds to import, is imported when a command runs.
"""

from scbert.cli import (  # noqa: F401  they register themselves
    annotate,
    convert,
    embed,
    evaluate,
    explain,
    finetune,
    inspect,
    models,
)
from scbert.cli.app import app

__all__ = ["app"]
