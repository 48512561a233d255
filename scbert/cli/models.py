"""scbert models."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scbert.cli.app import app, plain_errors

SHOWN = ("kind", "dataset", "genes", "sequence", "calibration", "scores", "format", "sha256")


@app.command()
def models(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder to look in; otherwise the package and ./results."),
    ] = None,
) -> None:
    """List the models at or below FOLDER; those that cannot be used with the reason."""
    with plain_errors():
        from scbert.steps.list_models import list_models  # noqa: PLC0415  torch takes seconds to import

        found = list_models(folder)
    table = Table("model", "what it is", title=escape(str(folder or "models")), show_lines=True)
    for model in found:
        name = escape(str(model.folder))
        if model.problem:
            table.add_row(name, f"[red]cannot be used[/red]: {escape(model.problem)}")
            continue
        lines = [f"{key}: {value}" for key in SHOWN if (value := getattr(model, key))]
        if model.types:
            lines.insert(2, f"{len(model.types)} types: {', '.join(model.types)}")
        table.add_row(name, escape("\n".join(lines)))
    Console().print(table)
