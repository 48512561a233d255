"""Rule annotate_piece: a piece of a large file of cells + a model -> what the model says of it."""

from scbert.config import run_step
from scbert.steps.annotate_piece import annotate_piece

run_step(annotate_piece, __doc__)
