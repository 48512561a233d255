"""Rule read_counts: a file of cells -> checked counts."""

from scbert.config import ReadSettings, step_arguments
from scbert.steps.read_counts import read_counts

paths, tables = ("cells", "counts", "quality"), ("clusters", "annotations")
args = step_arguments(__doc__, *paths, lists=tables, settings=ReadSettings)
read_counts(**vars(args))
