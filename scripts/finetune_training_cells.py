"""Rule finetune_training_cells: pretrained encoder and a labelled dataset -> cell-type model."""

from scbert.config import run_step
from scbert.steps.finetune_training_cells import finetune_training_cells

run_step(finetune_training_cells, __doc__)
