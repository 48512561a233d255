"""Rule evaluate_test_cells: predictions of the test cells -> scores."""

from scbert.config import run_step
from scbert.steps.evaluate_test_cells import evaluate_test_cells

run_step(evaluate_test_cells, __doc__)
