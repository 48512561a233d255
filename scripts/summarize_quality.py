"""Rule summarize_quality: the quality of each file of cells -> one table."""

from scbert.config import step_arguments
from scbert.steps.summarize_quality import summarize_quality

args = step_arguments(__doc__, "table", lists=("qualities",))
summarize_quality(**vars(args))
