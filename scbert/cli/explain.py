"""scbert explain."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from scbert.cli.app import app, plain_errors
from scbert.cli.options import Device, LibrarySizeKey, Matrix, Scale
from scbert.config import Explain

FIXED = {  # as in config/config.yaml, where they are explained
    "tokens_per_batch": 4096,
    "min_expressed": 0.2,
    "heat_map_genes": 4,
    "deletions": (1, 2, 5, 10, 20, 50),
    "max_genes_per_set": 500,
    "bootstrap_samples": 1000,
    "confidence_level": 0.95,
}


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
    scale: Scale = "auto",
    library_size_key: LibrarySizeKey = "",
    device: Device = "auto",
    cells_per_type: Annotated[int, typer.Option(help="Cells drawn from each type.")] = 10,
    steps: Annotated[int, typer.Option(help="Points of the integrated gradients.")] = 32,
    top_genes: Annotated[
        int, typer.Option(help="Top genes of a type to compare with gene sets.")
    ] = 50,
    random_draws: Annotated[int, typer.Option(help="Random removals beside each one.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the cells and genes drawn.")] = 2021,
) -> None:
    """Rank the genes behind each cell type in QUERY, and test whether removing them matters.

    A method whose genes matter to MODEL no more than random ones, or no more than those that a list
    made without a model names, is reported as failing. Needs
    pip install 'scbert-end-to-end[explain]'.
    """
    with plain_errors():
        from scbert.steps.explain import explain_file  # noqa: PLC0415  torch takes seconds to import

        settings = Explain.model_validate(
            FIXED
            | {
                "cells_per_type": cells_per_type,
                "steps": steps,
                "top_genes": top_genes,
                "random_draws": random_draws,
                "gene_sets": tuple(map(str, gene_sets or ())),
                "markers": str(markers or ""),
                "marker_types": str(marker_types or ""),
                "seed": seed,
            }
        )
        about = explain_file(
            query,
            model,
            out,
            label_key=label_key,
            matrix=matrix,
            scale=scale,
            library_size_key=library_size_key,
            settings=settings,
            device=device,
        )
    table = Table(
        *("method", "over random", "over control", "verdict"),
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
