"""Rule write_queries: what was found in each file of cells -> one page."""

from scbert.config import run_step
from scbert.steps.write_queries import write_queries

run_step(write_queries, __doc__)
