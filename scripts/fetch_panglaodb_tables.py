"""Rule fetch_panglaodb_tables: PanglaoDB's tables of samples, clusters, cell types, markers."""

from scbert.config import PanglaoDBSettings, step_arguments
from scbert.steps.fetch_panglaodb_tables import fetch_panglaodb_tables

tables = ("metadata", "cluster_sizes", "cell_types", "markers")
args = step_arguments(__doc__, *tables, settings=PanglaoDBSettings)
fetch_panglaodb_tables(**vars(args))
