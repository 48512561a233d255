"""Rule measure_batch_mixing: vectors of cells -> how well batches mix and types stay apart."""

from scbert.config import run_step
from scbert.steps.measure_batch_mixing import measure_batch_mixing

run_step(measure_batch_mixing, __doc__)
