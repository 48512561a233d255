"""What a fold of a task is learned from, as files: counts, tokens and who is in which part."""

from pathlib import Path

import anndata as ad
import pandas as pd
from annotation_tasks import Task, parts_of, select

from scbert.cells.how_to_read import HowToRead
from scbert.cells.read import write_cells
from scbert.config import Config
from scbert.files import publish
from scbert.steps.bin_expression import bin_expression
from scbert.steps.normalize_counts import normalize_counts
from scbert.steps.read_counts import read_counts
from scbert.tables import write_table
from scbert.training.labelled_file import dataset_of, reading_of

SPLIT_SEED = 2021  # of folds, validation cells and fewer cells: the same for all seeds


def write_inputs(
    inputs: Path, what: tuple[str, Task, str], pretrained: Path, config: Config
) -> None:
    """Write the cells to learn from, their parts and tokens, and apart from them the test cells.

    Parameters
    ----------
    what
        Name of the task, the task, and its fold.
    """
    (name, task, fold), split = what, config.split
    part = parts_of(task, fold, split.validation_fraction, split.validation_by, SPLIT_SEED)
    with publish(inputs) as folder:
        folder.mkdir()
        write_cells(folder / "test.h5ad", select(task, part == "test"))
        learn = part != "test"
        write_cells(folder / "cells.h5ad", select(task, learn))
        file = Path(f"{name}.h5ad")
        dataset = dataset_of(
            file, HowToRead("X", task.scale), label_key="cell_type", batch_key="batch"
        )
        counts, expression = folder / "counts.h5ad", folder / "expression.h5ad"
        reading = reading_of(dataset, config)
        read_counts(folder / "cells.h5ad", counts, folder / "quality.json", reading)
        read = ad.read_h5ad(counts, backed="r").obs
        table = pd.DataFrame({"cell": ad.read_h5ad(folder / "cells.h5ad").obs_names})
        table = table.assign(cell_type=task.cell_type[learn], part=part[learn])
        table = table.assign(batch=task.batch[learn] if task.by_batch else "")
        write_table(folder / "split.tsv", table[table.cell.isin(read.index)])
        genes, overlap = pretrained / "genes.tsv", folder / "overlap.json"
        normalize_counts(counts, genes, expression, overlap, config.normalization)
        bin_expression([expression], genes, folder / "tokens" / name, config.binning)
