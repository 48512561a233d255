"""Rule select_training_cells: a dataset -> its training cells without labels."""

from scbert.config import step_arguments
from scbert.steps.select_training_cells import select_training_cells

args = step_arguments(__doc__, "counts", "split", "training_cells")
select_training_cells(**vars(args))
