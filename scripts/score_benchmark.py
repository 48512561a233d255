"""Rule score_benchmark: answers of all methods to the tasks of a dataset -> scores and costs."""

from scbert.config import run_step
from scbert.steps.score_benchmark import score_benchmark

run_step(score_benchmark, __doc__)
