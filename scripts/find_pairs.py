"""Rule find_pairs: expression of one sample -> its co-expressed pairs of genes."""

from scbert.config import run_step
from scbert.steps.find_pairs import find_pairs

run_step(find_pairs, __doc__)
