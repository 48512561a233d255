"""Rule write_report: results and figures -> one HTML page."""

from scbert.config import run_step
from scbert.steps.write_report import write_report

run_step(write_report, __doc__)
