"""Rule build_vocabulary: counts of the corpus -> the genes that the model knows."""

from scbert.config import run_step
from scbert.steps.build_vocabulary import build_vocabulary

run_step(build_vocabulary, __doc__)
