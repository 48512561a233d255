"""Rule normalize_counts: counts -> log2(1 + counts per 10,000)."""

from scbert.config import Normalization, step_arguments
from scbert.steps.normalize_counts import normalize_counts

paths = ("counts", "vocabulary", "expression", "overlap")
args = step_arguments(__doc__, *paths, settings=Normalization)
normalize_counts(**vars(args))
