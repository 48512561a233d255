"""Rule annotate: test cells without their labels and a model -> predictions."""

from scbert.config import step_arguments
from scbert.steps.annotate_test_cells import annotate_test_cells

args = step_arguments(__doc__, "counts", "split", "model", "predictions", words=("device",))
annotate_test_cells(**vars(args))
