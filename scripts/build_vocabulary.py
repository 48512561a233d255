"""Rule build_vocabulary: counts of the corpus -> the genes that the model knows."""

from scbert.config import Vocabulary, step_arguments
from scbert.steps.vocabulary import build_vocabulary

args = step_arguments(__doc__, "gene_table", "vocabulary", lists=("counts",), settings=Vocabulary)
build_vocabulary(**vars(args))
