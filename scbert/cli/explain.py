"""scbert explain."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from scbert.cells.how_to_read import HowToRead
from scbert.cli.app import (
    Device,
    LibrarySizeKey,
    Matrix,
    ScaleOption,
    app,
    plain_errors,
    show_warnings,
)

DEFAULT = "(default: that of the configuration)."


@app.command()
def explain(  # noqa: PLR0913, PLR0917  a command takes all its options
    model: Annotated[Path, typer.Argument(help="Folder of a fine-tuned model.")],
    query: Annotated[Path, typer.Argument(help="Cells x genes, as `scbert annotate` takes them.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    gene_sets: Annotated[
        list[Path] | None, typer.Option(help="GMT file of gene sets; may be given again.")
    ] = None,
    markers: Annotated[Path | None, typer.Option(help="PanglaoDB's list of markers.")] = None,
    marker_types: Annotated[
        Path | None,
        typer.Option(help="Table cell_type, marker_cell_type: the labels' names in that list."),
    ] = None,
    label_key: Annotated[
        str, typer.Option(help="Column of obs with labels; else the model's own.")
    ] = "",
    matrix: Matrix = "auto",
    scale: ScaleOption = "auto",
    library_size_key: LibrarySizeKey = "",
    device: Device = "auto",
    config: Annotated[
        Path | None,
        typer.Option(help="YAML with the values that differ from the default configuration."),
    ] = None,
    cells_per_type: Annotated[
        int | None, typer.Option(help=f"Cells drawn from each type {DEFAULT}")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help=f"Points of the integrated gradients {DEFAULT}")
    ] = None,
    top_genes: Annotated[
        int | None, typer.Option(help=f"Genes of a type to compare with gene sets {DEFAULT}")
    ] = None,
    random_draws: Annotated[
        int | None, typer.Option(help=f"Random removals beside each one {DEFAULT}")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help=f"Random seed for drawing cells and genes {DEFAULT}")
    ] = None,
) -> None:
    """Rank the genes behind each cell type in QUERY, and test whether removing them matters.

    A method whose genes matter to MODEL no more than random ones, or no more than those that a list
    made without a model names, is reported as failing. Needs
    pip install 'scbert-end-to-end[explain]'.
    """
    with plain_errors():
        from scbert.defaults import load_defaults  # noqa: PLC0415
        from scbert.steps.explain_file import explain_file  # noqa: PLC0415  torch takes seconds to import

        options = {
            "cells_per_type": cells_per_type,
            "steps": steps,
            "top_genes": top_genes,
            "random_draws": random_draws,
            "gene_sets": [str(path) for path in gene_sets] if gene_sets else None,
            "markers": str(markers) if markers else None,
            "marker_types": str(marker_types) if marker_types else None,
            "seed": seed,
        }
        given = {key: value for key, value in options.items() if value is not None}
        settings = load_defaults(config, {"explain": given}).explain
        about = explain_file(
            query,
            model,
            out,
            label_key=label_key,
            reading=HowToRead(matrix, scale, library_size_key),
            settings=settings,
            device=device,
        )
    table = Table(
        "method",
        "over random",
        "over control",
        "verdict",
        title=f"{out}: intervals of the fall of the label's probability",
    )
    for found in about["methods"].values():
        table.add_row(
            found["title"].split(" (")[0],
            f"{found['low']:+.3f} to {found['high']:+.3f}",
            f"{found['over_control_low']:+.3f} to {found['over_control_high']:+.3f}"
            if found["method"] != "expression"
            else "",
            found["verdict"],
        )
    Console().print(table)
    show_warnings(about["warnings"])
