"""Rule evaluate: predictions of the test cells -> scores."""

from scbert.config import Evaluate, step_arguments
from scbert.steps.evaluate_test_cells import evaluate_test_cells

args = step_arguments(__doc__, "split", "evaluation", lists=("predictions",), settings=Evaluate)
evaluate_test_cells(args.predictions, args.split, args.evaluation, args.settings)
