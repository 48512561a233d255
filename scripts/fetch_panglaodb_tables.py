"""Rule fetch_panglaodb_tables: PanglaoDB's tables of samples, clusters, cell types, markers."""

from scbert.config import run_step
from scbert.steps.fetch_panglaodb_tables import fetch_panglaodb_tables

run_step(fetch_panglaodb_tables, __doc__)
