"""Rule select_samples: PanglaoDB's tables -> which samples join the corpus, and why not."""

from scbert.config import run_step
from scbert.steps.select_samples import select_samples

run_step(select_samples, __doc__)
