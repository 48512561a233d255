"""Rule write_benchmark: scores of all datasets and seeds -> one table, and one page."""

from scbert.config import run_step
from scbert.steps.write_benchmark import write_benchmark

run_step(write_benchmark, __doc__)
