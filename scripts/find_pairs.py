"""Rule find_pairs: expression of one sample -> its co-expressed pairs of genes."""

from scbert.config import Pairs, step_arguments
from scbert.steps.find_pairs import find_pairs

args = step_arguments(__doc__, "expression", "vocabulary", "pairs", settings=Pairs)
find_pairs(**vars(args))
