"""Writing a token store, sample after sample, and on after the last one if it is stopped."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from scbert.cells.store import checksum_line
from scbert.cells.store_files import FORMAT, PART, check_files
from scbert.cells.store_journal import DATA, JOURNAL, Line, begin, resume
from scbert.cells.tokens import Sample, bins_of_levels
from scbert.files import only_one, publish

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A file of cells: its sample's name, the SHA-256 of the file, and how to get its tokens."""

    sample: str
    sha256: str
    read: Callable[[], Sample]


def write_store(folder: Path, sources: Sequence[Source], meta: dict[str, Any]) -> dict[str, Any]:
    """Write a token store, one sample after the other, and publish it when it is complete.

    A run that was killed is continued after its last finished sample, if `meta` and the finished
    samples are the same; otherwise the store is written from the beginning.

    Parameters
    ----------
    meta
        What the store says about itself: at least n_bins, vocabulary_size and vocabulary_sha256.

    Returns
    -------
    `meta` with what was counted while writing.

    Raises
    ------
    ValueError
        If there is no cell, or two samples have the same name, or another process writes the store.
    """
    _require_different(folder, [source.sample for source in sources])
    settings = {"format": FORMAT, **meta}
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    with only_one(folder):
        samples = [(source.sample, source.sha256) for source in sources]
        done = resume(unfinished, settings, samples) or begin(unfinished, settings)
        try:
            with ExitStack() as stack:
                files = {
                    name: stack.enter_context((unfinished / name).open("ab"))
                    for name in (*DATA, JOURNAL)
                }
                for source in sources[len(done) - 1 :]:
                    done.append(_append(files, source, done))
            complete = _complete(folder, unfinished, settings, done[1:])
        except Exception:
            if not any(line["cells"] for line in done):  # nothing is lost
                shutil.rmtree(unfinished)
            raise
        with publish(folder) as place:
            unfinished.rename(place)
    return complete


def _require_different(folder: Path, names: list[str]) -> None:
    if not names:
        raise ValueError(f"{folder}: there is no file of cells to write. Name at least one.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"sample '{twice}' appears twice, but cells find their sample's genes by its name. "
            "Leave one out, or give the files other names."
        )


def _append(files: Mapping[str, IO[bytes]], source: Source, done: list[Line]) -> Line:
    """Write a sample, wait for the disk, and enter it into the journal."""
    sample, before = source.read(), done[-1]["tokens"]
    for name, values in _content(sample, source.sample, len(done) - 1, before).items():
        files[name].write(values)
        _wait_for_disk(files[name])
    n_bins = done[0]["settings"]["n_bins"]
    bins = np.bincount(bins_of_levels(sample.levels.data, n_bins), minlength=n_bins + 1)
    bins[0] += sample.below_one
    line = {
        "sample": source.sample,
        "sha256": source.sha256,
        "cells": len(sample.cells),
        "measured_genes": len(sample.measured),
        "bins": bins.tolist(),
        "tokens": before + sample.levels.nnz,
        "bytes": {name: files[name].tell() for name in DATA},
    }
    files[JOURNAL].write(json.dumps(line).encode() + b"\n")
    _wait_for_disk(files[JOURNAL])
    log.info("%s: %d cells, %d tokens", source.sample, len(sample.cells), sample.levels.nnz)
    return line


def _content(sample: Sample, name: str, number: int, before: int) -> dict[str, Any]:
    """Return the bytes that each file gets for sample `number`, behind `before` tokens."""
    levels, cells = sample.levels, pd.DataFrame({"cell": sample.cells, "sample": name})
    lines = cells.to_csv(sep="\t", index=False, header=False, lineterminator="\n")
    return {
        "gene.u16": levels.indices.astype("<u2").data,
        "level.u8": levels.data.astype("u1", copy=False).data,
        "indptr.i64": (levels.indptr[1:].astype("<i8") + before).data,
        "sample.u32": np.full(len(cells), number, "<u4").data,
        "measured.u8": sample.measured_row().data,
        "cells.tsv": lines.encode(),
    }


def _wait_for_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _complete(
    folder: Path, unfinished: Path, settings: dict[str, Any], done: list[Line]
) -> dict[str, Any]:
    """Check the files as a reader does, write what they are, and leave only them."""
    bins = np.sum([line["bins"] for line in done], axis=0)
    meta = {
        **settings,
        "cells": sum(line["cells"] for line in done),
        "tokens": done[-1]["tokens"],
        "bins": {str(number): int(n) for number, n in enumerate(bins)},
        "sources": [
            {key: line[key] for key in ("sample", "sha256", "cells", "measured_genes")}
            for line in done
        ],
        "files": {name: {"bytes": length} for name, length in done[-1]["bytes"].items()},
    }
    if not meta["cells"]:
        raise ValueError(
            f"{folder}: none of the {len(done)} samples has a cell, so there is nothing to learn "
            "from. See why quality control left them out (results/counts/SAMPLE.json)."
        )
    for name, sha256 in check_files(unfinished, meta):
        meta["files"][name]["sha256"] = sha256
    meta["tokens_per_cell"] = _lengths(unfinished / "indptr.i64", meta["vocabulary_size"])
    (unfinished / "meta.json").write_text(json.dumps(meta, indent=1, allow_nan=False) + "\n")
    (unfinished / "meta.sha256").write_bytes(checksum_line(unfinished / "meta.json"))
    (unfinished / JOURNAL).unlink()
    return meta


def _lengths(indptr: Path, vocabulary_size: int) -> dict[str, float]:
    """Return how many tokens cells have, from the numbers of cells of each length."""
    cells, before = np.zeros(vocabulary_size + 1, dtype=np.int64), 0
    with indptr.open("rb") as file:
        while len(values := np.fromfile(file, "<i8", PART)):
            cells += np.bincount(np.diff(values, prepend=before), minlength=len(cells))
            before = values[-1]
    cells[0] -= 1  # indptr begins with 0, of no cell
    middle = np.searchsorted(cells.cumsum(), [(cells.sum() - 1) // 2, cells.sum() // 2], "right")
    lengths = np.flatnonzero(cells)
    return {
        "min": int(lengths[0]),
        "median": float(middle.mean()),
        "max": int(lengths[-1]),
    }
