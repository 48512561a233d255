"""Rule explain_test_cells: test cells and a model -> genes behind each type, and a test of them."""

from scbert.config import run_step
from scbert.steps.explain_test_cells import explain_test_cells

run_step(explain_test_cells, __doc__)
