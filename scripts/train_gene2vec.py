"""Rule train_gene2vec: pairs of the corpus, or a file of vectors -> gene vectors."""

from scbert.config import Gene2vec, step_arguments
from scbert.steps.train_gene2vec import train_gene2vec

lists = ("pairs", "imported")
args = step_arguments(__doc__, "vocabulary", "gene2vec", lists=lists, settings=Gene2vec)
train_gene2vec(**vars(args))
