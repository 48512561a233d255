"""scbert convert-checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from scbert.cli.app import app, plain_errors


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
    with plain_errors():
        from scbert.steps.convert_checkpoint import convert_checkpoint as convert  # noqa: PLC0415  torch

        config = convert(checkpoint, genes, out, labels)
    typer.echo(f"{out}: {config['kind']}, genes sha256 {config['converted']['genes_sha256']}")
