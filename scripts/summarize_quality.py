"""Rule summarize_quality: the quality of each file of cells -> one table."""

from scbert.config import run_step
from scbert.steps.summarize_quality import summarize_quality

run_step(summarize_quality, __doc__)
