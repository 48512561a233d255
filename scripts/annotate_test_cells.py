"""Rule annotate_test_cells: test cells without their labels and a model -> predictions."""

from scbert.config import run_step
from scbert.steps.annotate_test_cells import annotate_test_cells

run_step(annotate_test_cells, __doc__)
