"""Rule read_counts: a file of cells -> checked counts."""

from scbert.config import ReadSettings, step_arguments
from scbert.steps.read import read_counts

args = step_arguments(__doc__, "cells", "counts", "quality", settings=ReadSettings)
read_counts(**vars(args))
