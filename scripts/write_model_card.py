"""Rule write_model_card: scores beside the baselines' -> README.md of a model."""

from scbert.config import run_step
from scbert.steps.write_model_card import write_model_card

run_step(write_model_card, __doc__)
