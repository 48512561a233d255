"""Rule fetch_panglaodb: the counts of one PanglaoDB sample."""

from scbert.config import run_step
from scbert.steps.fetch_panglaodb import fetch_panglaodb

run_step(fetch_panglaodb, __doc__)
