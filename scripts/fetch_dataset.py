"""Rule fetch_dataset: a file of an installed package, or of the network -> resources/."""

from scbert.config import SourceSettings, step_arguments
from scbert.steps.fetch_dataset import fetch_dataset

args = step_arguments(__doc__, "target", settings=SourceSettings)
fetch_dataset(**vars(args))
