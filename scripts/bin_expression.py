"""Rule bin_expression: expression -> token store."""

from scbert.config import run_step
from scbert.steps.bin_expression import bin_expression

run_step(bin_expression, __doc__)
