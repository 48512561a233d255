"""Rule pack_benchmark_crate: a finished benchmark -> a folder that says how it was made."""

from scbert.config import run_step
from scbert.steps.pack_benchmark_crate import pack_benchmark_crate

run_step(pack_benchmark_crate, __doc__)
