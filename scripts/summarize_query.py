"""Rule summarize_query: an annotated file -> what was found, in numbers, and a figure."""

from scbert.config import run_step
from scbert.steps.summarize_query import summarize_query

run_step(summarize_query, __doc__)
