"""Rule evaluate_gene2vec: gene vectors beside an SVD and beside random ones -> their quality."""

from scbert.config import run_step
from scbert.steps.evaluate_gene2vec import evaluate_gene2vec

run_step(evaluate_gene2vec, __doc__)
