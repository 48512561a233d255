"""scbert embed."""

from pathlib import Path
from typing import Annotated

import typer

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


@app.command()
def embed(  # noqa: PLR0913, PLR0917  one for each option
    query: QueryFile,
    model: Annotated[Path, typer.Option(help="Folder of a model, also of a pretrained one.")],
    out: Annotated[
        Path,
        typer.Option(
            help="Where to write the .h5ad with obsm['X_scbert']; only a result is replaced."
        ),
    ],
    matrix: Matrix = "auto",
    scale: ScaleOption = "auto",
    library_size_key: LibrarySizeKey = "",
    device: Device = "auto",
) -> None:
    """Give each cell of QUERY a vector, for neighbours, clusters and maps.

    A fine-tuned model gives the vector from which its head names the type; a pretrained one the
    mean over a cell's tokens of the encoder's output.
    """
    with plain_errors():
        from scbert.steps.embed_file import embed_file  # noqa: PLC0415  torch takes seconds to import

        require_h5ad(out)
        found = embed_file(
            query,
            model,
            out,
            reading=HowToRead(matrix, scale, library_size_key),
            device=device,
        )
    n_cells, width = found.obsm["X_scbert"].shape
    typer.echo(f"{out}: {n_cells} cells x {width}, {found.uns['scbert_embedding']['vector']}")
    show_warnings(found.uns["scbert_embedding"]["warnings"])
