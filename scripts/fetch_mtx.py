"""Rule fetch_mtx: a 10x folder, from an archive of the network or file by file -> resources/."""

from scbert.config import run_step
from scbert.steps.fetch_mtx import fetch_mtx

run_step(fetch_mtx, __doc__)
