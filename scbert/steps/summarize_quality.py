"""Step summarize_quality: what was decided about each file of cells, in one table."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from scbert.files import read_json
from scbert.tables import write_table

log = logging.getLogger(__name__)


def summarize_quality(qualities: Sequence[Path], table: Path) -> None:
    """Write one line for each sample and dataset: used or left out, why, and its numbers.

    Columns: those of the JSON files beside the counts, but for cell_types; dropped, notes and
    warnings as text.
    """
    rows = []
    for row in map(read_json, qualities):
        dropped = "; ".join(f"{n}: {reason}" for reason, n in row["dropped"].items() if n)
        row |= {"dropped": dropped, "notes": " ".join(row["notes"])}
        row["warnings"] = " ".join(row.get("warnings", {}).values())
        rows.append({name: value for name, value in row.items() if name != "cell_types"})
    found = pd.DataFrame(rows)
    write_table(table, found)
    left_out = int((found.decision == "left out").sum())
    kept, read = int(found.cells_kept.sum()), int(found.cells_read.sum())
    log.info(
        "%d files of cells, %d left out; %d of %d cells kept", len(found), left_out, kept, read
    )
