"""Rule look_at_query: a large file of cells to be annotated -> what its matrix holds."""

import logging
import tempfile
from dataclasses import asdict
from pathlib import Path

from scbert.cells.how_to_read import HowToRead
from scbert.cells.query import open_query
from scbert.cells.scale import scale_of_parts
from scbert.config import QuerySettings
from scbert.files import write_json
from scbert.training.calls import finetuned
from scbert.training.query_tokens import reading_for, tokens_for

log = logging.getLogger("scbert")


def look_at_query(query: Path, model: Path, settings: QuerySettings, scale: Path) -> None:
    """Read all of a file once, so that the jobs that share it need not, and refuse unusable cells.

    Parameters
    ----------
    scale
        The JSON file to write.

    Raises
    ------
    ValueError
        As `scbert annotate`.
    """
    loaded = finetuned(model)
    reading = reading_for(HowToRead.of(settings), loaded)
    with (
        tempfile.TemporaryDirectory(dir=scale.parent) as folder,
        open_query(query, reading, Path(folder), str(query)) as opened,
    ):
        found = scale_of_parts(opened.parts, reading.scale)
        tokens_for(opened, loaded, found)
        log.info("%s: %d cells of %s", query, len(opened), found)
    write_json(scale, asdict(found))
