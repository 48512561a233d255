"""Rule compare: expression and predictions -> scBERT beside baselines and controls."""

from scbert.config import run_step
from scbert.steps.compare import compare

run_step(compare, __doc__)
