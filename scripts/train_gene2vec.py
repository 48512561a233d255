"""Rule train_gene2vec: pairs of the corpus, or a file of vectors -> gene vectors."""

from scbert.config import run_step
from scbert.steps.train_gene2vec import train_gene2vec

run_step(train_gene2vec, __doc__)
