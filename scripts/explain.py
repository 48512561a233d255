"""Rule explain: test cells and a model -> genes that speak for each type, and whether they do."""

from scbert.config import Explain, step_arguments
from scbert.steps.explain_test_cells import explain_test_cells

lists = ("markers", "marker_types", "gene_sets")
paths = ("tokens", "split", "model", "explanation")
args = step_arguments(__doc__, *paths, lists=lists, words=("device",), settings=Explain)
explain_test_cells(**vars(args))
