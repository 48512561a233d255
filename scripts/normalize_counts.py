"""Rule normalize_counts: counts -> log2(1 + counts per 10,000)."""

from scbert.config import run_step
from scbert.steps.normalize_counts import normalize_counts

run_step(normalize_counts, __doc__)
