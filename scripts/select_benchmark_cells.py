"""Rule select_benchmark_cells: counts + a task -> the two files of cells that every method gets."""

from scbert.config import run_step
from scbert.steps.select_benchmark_cells import select_benchmark_cells

run_step(select_benchmark_cells, __doc__)
