"""Rule pretrain: tokens of the corpus and gene vectors -> pretrained encoder."""

from scbert.config import run_step
from scbert.steps.pretrain import pretrain

run_step(pretrain, __doc__)
