"""Rule gather_query: a large file + what a model says of its pieces -> the annotated file."""

from scbert.config import run_step
from scbert.steps.gather_query import gather_query

run_step(gather_query, __doc__)
