"""Rule annotate_query: a file of cells + a fine-tuned model -> the annotated file."""

from scbert.config import run_step
from scbert.steps.annotate_query import annotate_query

run_step(annotate_query, __doc__)
