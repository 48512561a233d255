"""scbert explain."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from scbert.cells.how_to_read import HowToRead
from scbert.cli.app import (
    ConfigFile,
    Device,
    FinetunedFolder,
    LibrarySizeKey,
    Matrix,
    ScaleOption,
    app,
    plain_errors,
    show_warnings,
)
from scbert.config import Explain

if TYPE_CHECKING:
    from scbert.evidence.explained import Explained

DEFAULT = "(default: that of the configuration)."
Query = Annotated[Path, typer.Argument(help="Cells x genes, as `scbert annotate` takes them.")]
Out = Annotated[Path, typer.Option(help="Folder to write.")]
GivenLabels = Annotated[str, typer.Option(help="Column of obs with labels; else the model's own.")]
GeneSets = Annotated[
    list[Path] | None, typer.Option(help="GMT file of gene sets; may be given again.")
]
Markers = Annotated[Path | None, typer.Option(help="PanglaoDB's list of markers.")]
MarkerTypes = Annotated[
    Path | None,
    typer.Option(help="Table cell_type, marker_cell_type: the labels' names in that list."),
]
CellsPerType = Annotated[int | None, typer.Option(help=f"Cells drawn from each type {DEFAULT}")]
Steps = Annotated[int | None, typer.Option(help=f"Points of the integrated gradients {DEFAULT}")]
TopGenes = Annotated[
    int | None, typer.Option(help=f"Genes of a type to compare with gene sets {DEFAULT}")
]
RandomDraws = Annotated[int | None, typer.Option(help=f"Random removals beside each one {DEFAULT}")]
Seed = Annotated[
    int | None, typer.Option(help=f"Random seed for drawing cells and genes {DEFAULT}")
]


@app.command()
def explain(  # noqa: PLR0913, PLR0917  a command takes all its options
    model: FinetunedFolder,
    query: Query,
    out: Out,
    gene_sets: GeneSets = None,
    markers: Markers = None,
    marker_types: MarkerTypes = None,
    label_key: GivenLabels = "",
    matrix: Matrix = "auto",
    scale: ScaleOption = "auto",
    library_size_key: LibrarySizeKey = "",
    device: Device = "auto",
    config: ConfigFile = None,
    cells_per_type: CellsPerType = None,
    steps: Steps = None,
    top_genes: TopGenes = None,
    random_draws: RandomDraws = None,
    seed: Seed = None,
) -> None:
    r"""Rank the genes behind each cell type in QUERY, and test whether removing them matters.

    A method whose genes matter to MODEL no more than random ones, or no more than those that a list
    made without a model names, is reported as failing. Needs, in the folder of the repository:
    pip install '.\[explain]'.
    """
    with plain_errors():
        from scbert.steps.explain_file import explain_file  # noqa: PLC0415  torch takes seconds to import

        settings = _settings(
            config,
            gene_sets=[str(path) for path in gene_sets] if gene_sets else None,
            markers=str(markers) if markers else None,
            marker_types=str(marker_types) if marker_types else None,
            cells_per_type=cells_per_type,
            steps=steps,
            top_genes=top_genes,
            random_draws=random_draws,
            seed=seed,
        )
        reading = HowToRead(matrix, scale, library_size_key)
        about = explain_file(
            query,
            model,
            out,
            label_key=label_key,
            reading=reading,
            settings=settings,
            device=device,
        )
    _show(out, about)


def _settings(config: Path | None, **options: object) -> Explain:
    """Return the configuration's settings, but for the options that were given."""
    from scbert.defaults import load_defaults  # noqa: PLC0415  reads files

    given = {key: value for key, value in options.items() if value is not None}
    return load_defaults(config, {"explain": given}).explain


def _show(out: Path, about: "Explained") -> None:
    """Show the verdict on each method, and the warnings."""
    title = f"{out}: intervals of the fall of the label's probability"
    table = Table("method", "over random", "over control", "verdict", title=title)
    for method, one in about.methods.items():
        found = one.deletion
        over_control = f"{found.over_control_low:+.3f} to {found.over_control_high:+.3f}"
        table.add_row(
            one.title.split(" (")[0],
            f"{found.low:+.3f} to {found.high:+.3f}",
            "" if method == "expression" else over_control,
            found.verdict,
        )
    Console().print(table)
    show_warnings(about.warnings)
