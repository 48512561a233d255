"""Rule select_samples: PanglaoDB's table -> which samples join the corpus, and why not."""

from scbert.config import PanglaoDB, step_arguments
from scbert.steps.panglaodb import select_samples

args = step_arguments(__doc__, "metadata", "exclusions", "samples", settings=PanglaoDB)
select_samples(**vars(args))
