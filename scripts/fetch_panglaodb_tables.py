"""Rule fetch_panglaodb_tables: PanglaoDB's table of samples."""

from scbert.config import PanglaoDB, step_arguments
from scbert.steps.panglaodb import fetch_panglaodb_tables

args = step_arguments(__doc__, "metadata", settings=PanglaoDB)
fetch_panglaodb_tables(**vars(args))
