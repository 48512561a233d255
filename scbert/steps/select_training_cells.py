"""Rule select_training_cells: the counts of training and validation cells, without labels."""

import logging
from pathlib import Path

import anndata as ad

from scbert.cells.read import write_cells
from scbert.cells.splits import unlabelled_part
from scbert.tables import read_table

log = logging.getLogger(__name__)


def select_training_cells(counts: Path, split: Path, training_cells: Path) -> None:
    """Write the training cells without their labels, to join the corpus."""
    adata = ad.read_h5ad(counts)
    training = unlabelled_part(adata, read_table(split, "cell", "part"), "train")
    write_cells(training_cells, training)
    log.info("%d of %d cells, labels removed", training.n_obs, adata.n_obs)
