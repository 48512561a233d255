"""Rule split_cells: cells of a dataset -> train, validation, test."""

from scbert.config import Split, step_arguments
from scbert.steps.split_cells import split_cells

args = step_arguments(__doc__, "counts", "split", settings=Split)
split_cells(**vars(args))
