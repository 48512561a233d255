"""Rule make_benchmark_tasks: counts with labels -> which cells are learned from and asked about."""

from scbert.config import run_step
from scbert.steps.make_benchmark_tasks import make_benchmark_tasks

run_step(make_benchmark_tasks, __doc__)
