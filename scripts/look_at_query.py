"""Rule look_at_query: a large file of cells to be annotated -> what its matrix holds."""

from scbert.config import run_step
from scbert.steps.look_at_query import look_at_query

run_step(look_at_query, __doc__)
