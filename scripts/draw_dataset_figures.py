"""Rule draw_dataset_figures: scores, comparison and training histories -> figures."""

from scbert.config import step_arguments
from scbert.steps.draw_dataset_figures import draw_dataset_figures

figures = ("scores", "confusion", "per_type", "finetuning", "umap", "reliability", "unknown")
args = step_arguments(__doc__, "evaluation", "comparison", *figures, lists=("models",))
draw_dataset_figures(**vars(args))
