"""Rule read_counts: a file of cells -> checked counts."""

from scbert.config import run_step
from scbert.steps.read_counts import read_counts

run_step(read_counts, __doc__)
