"""Rule compare: expression and predictions -> scBERT beside baselines and controls."""

from scbert.config import CompareSettings, step_arguments
from scbert.steps.compare import compare

args = step_arguments(
    __doc__, "expression", "split", "comparison", lists=("predictions",), settings=CompareSettings
)
compare(args.expression, args.split, args.predictions, args.comparison, args.settings)
