"""scbert finetune."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from scbert.cli.app import (
    ConfigFile,
    LabelKey,
    LabelledFile,
    LibrarySizeKey,
    Matrix,
    ScaleOption,
    app,
    plain_errors,
    show_warnings,
)
from scbert.config import DeviceName
from scbert.evidence.comparison import Comparison, OutOfFoldComparison
from scbert.report.text import score_with_interval
from scbert.shipped import ENCODER

Out = Annotated[Path, typer.Option(help="Folder of the new model; it must not exist.")]
Pretrained = Annotated[
    Path, typer.Option(help="Folder of a pretrained model; otherwise that of the package.")
]
BatchKey = Annotated[
    str, typer.Option(help="Column of obs with donors or studies, to test on whole ones.")
]
Seed = Annotated[
    int | None,
    typer.Option(help="Random seed of training (default: that of the configuration).", min=0),
]
NoTest = Annotated[
    bool,
    typer.Option(
        "--no-test",
        help="Hold out no test cells: all are for training and validation. Judge the model with "
        "`scbert evaluate` and other cells.",
    ),
]
AddGenes = Annotated[
    bool,
    typer.Option(
        "--add-genes",
        help="Add the genes of REFERENCE that the pretrained model does not know, such as markers "
        "of another tissue.",
    ),
]
Ontology = Annotated[
    Path | None, typer.Option(help="Table: cell_type, ontology_term_id and perhaps parent.")
]
DeviceIfNamed = Annotated[
    DeviceName | None,
    typer.Option(help="auto, cpu, cuda, mps (Apple); otherwise the configuration's device."),
]


@app.command()
def finetune(  # noqa: PLR0913, PLR0917  one for each option
    reference: LabelledFile,
    label_key: LabelKey,
    out: Out,
    pretrained: Pretrained = Path(ENCODER),
    batch_key: BatchKey = "",
    config: ConfigFile = None,
    seed: Seed = None,
    matrix: Matrix = "auto",
    scale: ScaleOption = "auto",
    library_size_key: LibrarySizeKey = "",
    no_test: NoTest = False,
    add_genes: AddGenes = False,
    ontology: Ontology = None,
    device: DeviceIfNamed = None,
) -> None:
    """Train a model on the cell types of REFERENCE, and score it on held-out cells.

    Simple baselines are scored beside it; README.md of the model is its card. If it is stopped, the
    same command resumes from the last checkpoint.
    """
    with plain_errors():
        from scbert.steps.finetune_file import finetune_file  # noqa: PLC0415  torch: seconds

        scores = finetune_file(
            reference,
            out,
            pretrained=pretrained,
            label_key=label_key,
            batch_key=batch_key,
            config=config,
            seed=seed,
            matrix=matrix,
            scale=scale,
            library_size_key=library_size_key,
            test=not no_test,
            add_genes=add_genes,
            ontology=ontology,
            device=device,
        )
    if no_test:
        _show_without_test(out, label_key, OutOfFoldComparison.of(scores))
    else:
        _show(out, Comparison.of(scores))
    show_warnings(scores["warnings"])


def _show(out: Path, found: Comparison) -> None:
    title = f"{out.name}: {found.n_test} test cells"
    table = Table("method", "macro F1, test", "accuracy, test", title=title)
    for one in found.methods:
        table.add_row(one.title, *map(score_with_interval, (one.macro_f1, one.accuracy)))
    Console().print(table)


def _show_without_test(out: Path, label_key: str, found: OutOfFoldComparison) -> None:
    title = f"{out.name}: no test cells; {found.n_out_of_fold} cells out of fold"
    table = Table("method", "macro F1, out of fold", "log loss, out of fold", title=title)
    for one in found.methods:
        values = (one.out_of_fold_macro_f1, one.out_of_fold_log_loss)
        table.add_row(one.title, *(f"{value:.3f}" for value in values))
    if found.methods:
        Console().print(table)
    typer.echo(found.caution)
    typer.echo(f"Judge it: scbert evaluate {out} TEST.h5ad --label-key {label_key}")
