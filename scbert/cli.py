"""The command line: one AnnData at a time. The workflow's door is Snakemake."""

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from scbert import __version__
from scbert.logs import start_logging

app = typer.Typer(
    help="scBERT end to end: name the types of single cells with a fine-tuned Performer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"scbert {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Name the types of single cells with a fine-tuned Performer."""
    start_logging()


@app.command()
def annotate(
    query: Annotated[
        Path,
        typer.Argument(help="Cells x genes: .h5ad, .h5 or folder of 10x, or .csv of counts."),
    ],
    model: Annotated[Path, typer.Option(help="Folder of a fine-tuned model.")],
    out: Annotated[Path, typer.Option(help="Where to write the annotated .h5ad.")],
    matrix: Annotated[
        str,
        typer.Option(help="X, raw.X or layers/NAME; auto: layers/counts, else raw.X, else X."),
    ] = "auto",
    library_size_key: Annotated[
        str,
        typer.Option(help="Column of obs with all counts of each cell, if genes were left out."),
    ] = "",
    cluster_key: Annotated[
        str, typer.Option(help="Column of obs with clusters, for a majority vote in each.")
    ] = "",
) -> None:
    """Name the type of each cell of QUERY, with calibrated confidence.

    Counts and log-normalised expression are told apart by themselves; genes are human symbols or
    Ensembl ids. What was in the file stays; columns scbert_* are added.
    """
    try:
        from scbert.steps.annotate import annotate_file  # noqa: PLC0415  torch takes seconds to import

        _require_h5ad(out)
        result = annotate_file(
            query,
            model,
            out,
            matrix=matrix,
            library_size_key=library_size_key,
            cluster_key=cluster_key,
        )
    except (ValueError, OSError) as error:
        logging.getLogger("scbert").debug("traceback", exc_info=error)
        typer.echo(f"ERROR: {error}", err=True)
        raise typer.Exit(1) from None
    table = Table("cell type", "cells", "median confidence", "unknown", title=f"{out}")
    for label, cells in result.obs.groupby("scbert_label", observed=True):
        table.add_row(
            str(label),
            f"{len(cells)}",
            f"{cells.scbert_confidence.median():.2f}",
            f"{cells.scbert_is_unknown.sum()}",
        )
    Console().print(table)


@app.command()
def convert_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth file of the original scBERT.")],
    genes: Annotated[
        Path,
        typer.Option(help="Its genes, in order: .h5ad (var_names), or one symbol per line."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new model; it must not exist.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Names of its cell types, one per line, in its order (sorted)."),
    ] = None,
) -> None:
    """Turn CHECKPOINT of the original scBERT into a model for every command and step here.

    Pretrained and fine-tuned checkpoints of any size are read, and no code in them is run.
    """
    try:
        from scbert.steps.convert import convert_checkpoint as convert  # noqa: PLC0415  torch

        config = convert(checkpoint, genes, out, labels)
    except (ValueError, OSError) as error:
        logging.getLogger("scbert").debug("traceback", exc_info=error)
        typer.echo(f"ERROR: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{out}: {config['kind']}, genes sha256 {config['converted']['genes_sha256']}")


def _require_h5ad(out: Path) -> None:
    if out.suffix != ".h5ad":
        raise ValueError(
            f"--out is {out}, but results are written as .h5ad. Give a name that ends so."
        )
