"""Rule fetch_panglaodb: the counts of one PanglaoDB sample."""

from scbert.config import SampleSettings, step_arguments
from scbert.steps.fetch_panglaodb import fetch_panglaodb

args = step_arguments(__doc__, "counts", settings=SampleSettings)
fetch_panglaodb(**vars(args))
