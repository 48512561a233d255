"""scbert annotate."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scbert.cells.how_to_read import HowToRead
from scbert.cli.app import (
    Device,
    LibrarySizeKey,
    Matrix,
    QueryFile,
    ScaleOption,
    app,
    plain_errors,
    require_h5ad,
    show_warnings,
)
from scbert.shipped import BLOOD


@app.command()
def annotate(  # noqa: PLR0913, PLR0917  one for each option
    query: QueryFile,
    out: Annotated[
        Path, typer.Option(help="Where to write the annotated .h5ad; only a result is replaced.")
    ],
    model: Annotated[
        Path,
        typer.Option(
            help="Folder of a fine-tuned model, or the name of one that `scbert models` lists."
        ),
    ] = Path(BLOOD),
    matrix: Matrix = "auto",
    scale: ScaleOption = "auto",
    library_size_key: LibrarySizeKey = "",
    device: Device = "auto",
    cluster_key: Annotated[
        str, typer.Option(help="Column of obs with clusters, for a majority vote in each.")
    ] = "",
    all_experts: Annotated[
        bool,
        typer.Option("--all-experts", help="Run the encoder even if its weight is 0: slow."),
    ] = False,
) -> None:
    """Name the type of each cell of QUERY, with calibrated confidence.

    Counts and log-normalised expression are recognised automatically; genes are human symbols or
    Ensembl ids. The contents of the file are kept; columns scbert_* are added.
    """
    with plain_errors():
        from scbert.steps.annotate_file import annotate_file  # noqa: PLC0415  torch takes seconds to import

        require_h5ad(out)
        result = annotate_file(
            query,
            model,
            out,
            reading=HowToRead(matrix, scale, library_size_key),
            cluster_key=cluster_key,
            all_experts=all_experts,
            device=device,
        )
    _show(out, result.obs)
    show_warnings(result.uns["scbert"]["warnings"])


def _show(out: Path, calls: pd.DataFrame) -> None:
    table = Table("cell type", "cells", "median confidence", "unknown", title=escape(str(out)))
    for label, cells in calls.groupby("scbert_label", observed=True):
        table.add_row(
            escape(str(label)),
            f"{len(cells)}",
            f"{cells.scbert_confidence.median():.2f}",
            f"{cells.scbert_is_unknown.sum()}",
        )
    Console().print(table)
