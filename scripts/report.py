"""Rule report: results and figures -> one HTML page."""

from scbert.config import step_arguments
from scbert.steps.write_report import write_report

one = ("quality", "gene2vec", "gene2vec_quality", "validation", "benchmarks", "config", "report")
many = ("evaluations", "comparisons", "explanations", "overlaps", "stores")
figures = ("dataset_figures", "corpus_figures")
args = step_arguments(__doc__, *one, lists=many + figures)
write_report(**vars(args))
