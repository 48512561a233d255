"""Rule select_training_cells: a dataset -> its training cells without labels."""

from scbert.config import run_step
from scbert.steps.select_training_cells import select_training_cells

run_step(select_training_cells, __doc__)
