"""Rule explain: test cells and a model -> genes that speak for each type, and whether they do."""

from scbert.config import run_step
from scbert.steps.explain_test_cells import explain_test_cells

run_step(explain_test_cells, __doc__)
