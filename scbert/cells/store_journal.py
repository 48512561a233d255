"""What an unfinished token store remembers, so that a run that was killed resumes.

The folder .NAME.unfinished beside the target holds the files of the store and a journal: a line of
settings and, once all that a sample wrote is on the disk, a line with that sample's name, the
SHA-256 of its file and how long each file of the store is then.
"""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from scbert.cells.store_files import DTYPES

log = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
DATA = (*DTYPES, "cells.tsv")
FIRST_BYTES = {"indptr.i64": np.zeros(1, "<i8").tobytes(), "cells.tsv": b"cell\tsample\n"}

Line = dict[str, Any]


def begin(unfinished: Path, settings: Line) -> list[Line]:
    """Make an empty store and a journal of one line; what was there is deleted."""
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name in DATA:
        (unfinished / name).write_bytes(FIRST_BYTES.get(name, b""))
    first = {"settings": settings, "cells": 0, "tokens": 0}
    _write(unfinished / JOURNAL, [first])
    return [first]


def resume(unfinished: Path, settings: Line, samples: list[tuple[str, str]]) -> list[Line]:
    """Return the journal of a run that can be continued, or nothing.

    What stands behind the last finished sample is cut off.

    Parameters
    ----------
    samples
        Name and SHA-256 of the file of every sample that the store shall hold, in order.
    """
    lines = _read(unfinished / JOURNAL)
    if len(lines) < 2:  # no sample was finished
        return []
    found = [(line["sample"], line["sha256"]) for line in lines[1:]]
    lengths = lines[-1]["bytes"]
    if lines[0]["settings"] != settings:
        why = "its settings, its vocabulary or the versions of the software were others"
    elif found != samples[: len(found)]:
        why = "its samples were others, or in another order"
    elif any(_size(unfinished / name) < length for name, length in lengths.items()):
        why = "its files are shorter than its journal says"
    else:
        for name, length in lengths.items():
            os.truncate(unfinished / name, length)
        _write(unfinished / JOURNAL, lines)
        log.info("%s continues after %d of %d samples", unfinished, len(found), len(samples))
        return lines
    log.warning("%s cannot be continued: %s. The store is written again.", unfinished, why)
    return []


def _read(path: Path) -> list[Line]:
    """Return the lines that were written to their end."""
    lines: list[Line] = []
    for text in path.read_bytes().split(b"\n")[:-1] if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def _write(path: Path, lines: list[Line]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
