"""Rule select_samples: PanglaoDB's tables -> which samples join the corpus, and why not."""

from scbert.config import PanglaoDB, step_arguments
from scbert.steps.select_samples import select_samples

paths = ("metadata", "cluster_sizes", "exclusions", "samples")
args = step_arguments(__doc__, *paths, settings=PanglaoDB)
select_samples(**vars(args))
