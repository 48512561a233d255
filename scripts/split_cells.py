"""Rule split_cells: cells of a dataset -> train, validation, test."""

from scbert.config import run_step
from scbert.steps.split_cells import split_cells

run_step(split_cells, __doc__)
