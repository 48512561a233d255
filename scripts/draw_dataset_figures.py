"""Rule draw_dataset_figures: scores, comparison and training histories -> figures."""

from scbert.config import run_step
from scbert.steps.draw_dataset_figures import draw_dataset_figures

run_step(draw_dataset_figures, __doc__)
