"""Rule build_vocabulary: counts of the corpus -> the genes that the model knows."""

from scbert.config import Vocabulary, step_arguments
from scbert.steps.build_vocabulary import build_vocabulary

paths, lists = ("gene_table", "vocabulary"), ("counts", "gene_list")
args = step_arguments(__doc__, *paths, lists=lists, settings=Vocabulary)
build_vocabulary(**vars(args))
