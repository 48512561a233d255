"""Rule fetch_mtx: a 10x folder, from an archive of the network or file by file -> resources/."""

from scbert.config import SourceSettings, step_arguments
from scbert.steps.fetch_mtx import fetch_mtx

args = step_arguments(__doc__, "folder", settings=SourceSettings)
fetch_mtx(**vars(args))
