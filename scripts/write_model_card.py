"""Rule write_model_card: scores beside the baselines' -> README.md of a model."""

from scbert.config import step_arguments
from scbert.steps.write_model_card import write_model_card

args = step_arguments(__doc__, "model", "evaluation", "comparison", "quality", "card")
write_model_card(**vars(args))
