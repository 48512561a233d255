"""Rule annotate_test_cells: the test cells of a dataset + a fine-tuned model -> predictions."""

from pathlib import Path

import anndata as ad

from scbert.cells.read import write_cells
from scbert.cells.splits import unlabelled_part
from scbert.config import DeviceName
from scbert.steps.annotate_file import annotate_checked
from scbert.tables import read_table


def annotate_test_cells(
    counts: Path, split: Path, model: Path, predictions: Path, device: DeviceName
) -> None:
    """Annotate the test cells of a dataset, without letting the model see a label."""
    cells = unlabelled_part(ad.read_h5ad(counts), read_table(split, "cell", "part"), "test")
    write_cells(predictions, annotate_checked(cells, model, device, str(counts)))
