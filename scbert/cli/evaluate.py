"""scbert evaluate."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from scbert.cells.cautions import AND_MORE, some
from scbert.cli.app import (
    Device,
    FinetunedFolder,
    LabelKey,
    LabelledFile,
    LibrarySizeKey,
    Matrix,
    ScaleOption,
    app,
    plain_errors,
    show_warnings,
)
from scbert.evidence.evaluation import FileEvaluation
from scbert.report.text import score_with_interval


@app.command()
def evaluate(  # noqa: PLR0913, PLR0917  one for each option
    model: FinetunedFolder,
    test: LabelledFile,
    label_key: LabelKey,
    batch_key: Annotated[
        str, typer.Option(help="Column of obs with donors or studies, to score each separately.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write evaluation.json to.", file_okay=False)
    ] = None,
    matrix: Matrix = "auto",
    scale: ScaleOption = "auto",
    library_size_key: LibrarySizeKey = "",
    device: Device = "auto",
) -> None:
    """Predict the types of TEST without using its labels, and score the predictions.

    The logistic regression that is kept in MODEL is scored beside it. Cells of types that MODEL
    does not know are reported separately. Cells that it was trained on are recognised and left out,
    unless their counts were changed (sequenced again, thinned, corrected).
    """
    with plain_errors():
        from scbert.steps.evaluate_file import evaluate_file  # noqa: PLC0415  torch takes seconds

        content = evaluate_file(
            model,
            test,
            label_key=label_key,
            batch_key=batch_key,
            out=out,
            matrix=matrix,
            scale=scale,
            library_size_key=library_size_key,
            device=device,
        )
    found = FileEvaluation.of(content)
    for table in (_scores(found), _batches(found)):
        if table.row_count:
            Console().print(table)
    for line in _notes(found):
        typer.echo(line)
    show_warnings(found.warnings)


def _scores(found: FileEvaluation) -> Table:
    title = f"{found.model} on {found.test}: {found.scbert.n_test} cells of known types"
    table = Table("method", "macro F1", "accuracy", "balanced accuracy", title=title)
    for one in found.methods:
        table.add_row(
            one.title,
            *map(score_with_interval, (one.macro_f1, one.accuracy, one.balanced_accuracy)),
        )
    return table


def _batches(found: FileEvaluation) -> Table:
    titles = {one.method: one.title for one in found.methods}
    table = Table("batch", "cells", *titles.values(), title="macro F1 of each batch")
    for batch in found.batches:
        scores = (f"{batch.scores[method]['macro_f1']:.3f}" for method in titles)
        table.add_row(batch.batch, str(batch.cells), *scores)
    return table


def _notes(found: FileEvaluation) -> list[str]:
    before, after = found.scbert.reliability.before, found.scbert.reliability.after
    lines = [f"expected calibration error: {before.ece:.3f} before, {after.ece:.3f} after"]
    if novel := found.novel:
        named = some([f"{name} {n}" for name, n in novel.cell_types.items()], AND_MORE)
        lines.append(
            f"{novel.cells} cells of types that the model does not know ({named}): "
            f"{novel.share_called_unknown:.1%} called unknown "
            f"(of known types {novel.share_of_known_called_unknown:.1%}), AUROC {novel.auroc:.3f}"
        )
    dropped = [f"{n} cells {why}" for why, n in found.left_out.items() if n]
    return lines + ([f"left out: {', '.join(dropped)}"] if dropped else [])
