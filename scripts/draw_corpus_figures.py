"""Rule draw_corpus_figures: tokens, gene vectors and pretraining -> figures."""

from scbert.config import run_step
from scbert.steps.draw_corpus_figures import draw_corpus_figures

run_step(draw_corpus_figures, __doc__)
