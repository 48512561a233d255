"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from scbert.config import DeviceName

Query = Annotated[
    Path,
    typer.Argument(help="Cells x genes: .h5ad, .h5 or folder of 10x, or .csv of counts."),
]
LabelledCells = Annotated[
    Path,
    typer.Argument(help="Cells x genes with known types: .h5ad, .h5 or folder of 10x, .csv."),
]
Matrix = Annotated[
    str,
    typer.Option(help="X, raw.X or layers/NAME; auto: layers/counts, else raw.X, else X."),
]
Scale = Annotated[
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
