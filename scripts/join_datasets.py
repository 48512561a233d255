"""Rule join_datasets: counts of several datasets -> one file of cells."""

from scbert.config import run_step
from scbert.steps.join_datasets import join_datasets

run_step(join_datasets, __doc__)
