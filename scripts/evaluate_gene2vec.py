"""Rule evaluate_gene2vec: gene vectors beside an SVD and beside random ones -> their quality."""

from scbert.config import Gene2vecQuality, step_arguments
from scbert.steps.evaluate_gene2vec import evaluate_gene2vec

paths = ("gene2vec", "vocabulary", "quality")
lists = ("pairs", "gene_sets", "labelled_pairs")
args = step_arguments(__doc__, *paths, lists=lists, settings=Gene2vecQuality)
evaluate_gene2vec(**vars(args))
