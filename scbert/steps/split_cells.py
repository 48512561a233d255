"""Rule split_cells: labelled counts -> the part of each cell. Needs no torch."""

import logging
from pathlib import Path

import anndata as ad
import pandas as pd

from scbert.cells.folds import divide, divide_without_test
from scbert.config import Split
from scbert.steps.read_counts import _count, listed
from scbert.tables import write_table

log = logging.getLogger(__name__)


def split_cells(counts: Path, split: Path, settings: Split, *, test: bool = True) -> None:
    """Divide a dataset into train, validation and, if wanted, test; by batch where it has any."""
    obs = ad.read_h5ad(counts, backed="r").obs
    batch = obs.batch.to_numpy().astype(str) if "batch" in obs else None
    parts = divide if test else divide_without_test
    part = parts(obs.cell_type.to_numpy().astype(str), batch, settings)
    table = pd.DataFrame({"cell": obs.index, "cell_type": obs.cell_type.to_numpy()})
    table["batch"] = obs.batch.to_numpy() if "batch" in obs else ""
    table["part"] = part
    write_table(split, table)
    log.info("cells of each part: %s", listed(_count(table.part)))
