"""The typer application, its commands' shared options, and how they end when something is wrong."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scbert import __version__
from scbert.config import DeviceName
from scbert.files import refuse_folder
from scbert.logs import end_when_told, start_logging

app = typer.Typer(
    help="scBERT end to end: annotate the cell types of human single-cell RNA-seq data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
FORMATS = "Cells x genes: .h5ad, .zarr, .h5mu (rna), .h5 or folder of 10x, .csv or .tsv of counts."
QueryFile = Annotated[
    Path,
    typer.Argument(help=FORMATS),
]
LabelledFile = Annotated[
    Path,
    typer.Argument(help=f"{FORMATS} With known types."),
]
FinetunedFolder = Annotated[Path, typer.Argument(help="Folder of a fine-tuned model.")]
LabelKey = Annotated[str, typer.Option(help="Column of obs with the cell types.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(help="YAML with the values that differ from the default configuration."),
]
Matrix = Annotated[
    str,
    typer.Option(
        help="X, raw.X or layers/NAME; auto: of layers/counts, raw.X and X the one with counts, or "
        "log1p of them, of most of the model's genes."
    ),
]
ScaleOption = Annotated[
    str,
    typer.Option(
        help="auto, counts, log1p; expected_counts: estimates that are not integers (RSEM, Salmon, "
        "corrected molecules)."
    ),
]
LibrarySizeKey = Annotated[
    str,
    typer.Option(help="Column of obs with all counts of each cell, if genes were left out."),
]
Device = Annotated[
    DeviceName,
    typer.Option(help="auto: a CUDA GPU if there is one, else the CPU. mps is Apple's GPU."),
]


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
    end_when_told()


@contextmanager
def plain_errors() -> Iterator[None]:
    """End a command with the message alone, and exit code 1, where the user can do something."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:  # the last: training exploded
        logging.getLogger("scbert").debug("traceback", exc_info=error)
        typer.echo(f"ERROR: {error}", err=True)
        raise typer.Exit(1) from None


def show_warnings(warnings: Mapping[str, str]) -> None:
    """Show the warnings about a result, if there are any."""
    if warnings:
        table = Table("warning", "what it means, and what to do", style="yellow")
        for code, text in warnings.items():
            table.add_row(code, escape(text))
        Console().print(table)


def require_h5ad(out: Path) -> None:
    """Refuse a name of a result that says another format, and a folder that would be replaced."""
    refuse_folder(out)
    if out.suffix != ".h5ad":
        raise ValueError(
            f"--out is {out}, but results are written as .h5ad. Give a name that ends in .h5ad."
        )
