"""Rule draw_corpus_figures: tokens, gene vectors and pretraining -> figures."""

from scbert.config import step_arguments
from scbert.steps.report import draw_corpus_figures

figures = ("tokens_figure", "gene2vec_figure", "pretraining_figure")
args = step_arguments(__doc__, "tokens", "gene2vec", "pretrained", *figures)
draw_corpus_figures(**vars(args))
