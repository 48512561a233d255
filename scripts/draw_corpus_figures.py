"""Rule draw_corpus_figures: tokens, gene vectors and pretraining -> figures."""

from scbert.config import step_arguments
from scbert.steps.draw_corpus_figures import draw_corpus_figures

names = ("tokens", "gene2vec", "gene2vec_quality", "pretraining")
read = ("tokens", "gene2vec", "gene2vec_quality", "pretrained")
args = step_arguments(__doc__, *read, *(f"{name}_figure" for name in names))
draw_corpus_figures(**vars(args))
