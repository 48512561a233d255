"""Rule embed_benchmark_cells: counts of several batches -> the encoder's vectors and components."""

from scbert.config import run_step
from scbert.steps.embed_benchmark_cells import embed_benchmark_cells

run_step(embed_benchmark_cells, __doc__)
