"""Rule train_gene2vec: expression of the corpus -> gene vectors."""

from scbert.config import Gene2vec, step_arguments
from scbert.steps.gene2vec import train_gene2vec

args = step_arguments(__doc__, "vocabulary", "gene2vec", lists=("expressions",), settings=Gene2vec)
train_gene2vec(**vars(args))
