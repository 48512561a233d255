"""Rule bin_expression: expression -> token store."""

from scbert.config import Binning, step_arguments
from scbert.steps.bin_expression import bin_expression

args = step_arguments(__doc__, "vocabulary", "tokens", lists=("expressions",), settings=Binning)
bin_expression(**vars(args))
