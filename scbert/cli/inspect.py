"""scbert inspect."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scbert.cells.cautions import by_code
from scbert.cells.how_to_read import HowToRead
from scbert.cli.app import (
    LibrarySizeKey,
    Matrix,
    QueryFile,
    ScaleOption,
    app,
    plain_errors,
    show_warnings,
)


@app.command()
def inspect(
    query: QueryFile,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a model; without it only the file is checked.")
    ] = None,
    matrix: Matrix = "auto",
    scale: ScaleOption = "auto",
    library_size_key: LibrarySizeKey = "",
) -> None:
    """Check what annotate would do with QUERY, without running the network.

    The exit code is 0 if it would accept the file, and 1 with the reason if it would not.
    """
    with plain_errors():
        from scbert.steps.inspect_file import inspect_file  # noqa: PLC0415  torch takes seconds

        found = inspect_file(query, model, reading=HowToRead(matrix, scale, library_size_key))
        table = Table("what", "found", title=escape(str(query)))
        for what, value in found.rows:
            table.add_row(what, escape(value))
        Console().print(table)
        show_warnings(by_code(found.cautions))
        if found.refusal:
            raise ValueError(f"annotate would refuse this: {found.refusal}")
    typer.echo("annotate would accept this." if model else "No model was given to compare with.")
