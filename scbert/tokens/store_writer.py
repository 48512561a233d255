"""Writing a token store, sample after sample, into a folder beside it.

A store that was not finished is never read: a writer that was stopped begins anew.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from scbert.files import checksum_line, only_one, publish, write_json
from scbert.tokens.store_files import (
    DTYPES,
    FORMAT,
    PART,
    StoreMeta,
    TokensPerCell,
    check_files,
)
from scbert.tokens.tokenize import Sample, bins_of_levels

log = logging.getLogger(__name__)
DATA = (*DTYPES, "cells.tsv")
FIRST_BYTES = {"indptr.i64": np.zeros(1, "<i8").tobytes(), "cells.tsv": b"cell\tsample\n"}


@dataclass(frozen=True)
class SampleSource:
    """A file of cells: its sample's name, the SHA-256 of the file, and how to get its tokens."""

    sample: str
    sha256: str
    read: Callable[[], Sample]


@dataclass(frozen=True)
class _Written:
    """What was counted of a sample: `bins` are its tokens by bin, silent genes left out."""

    sample: str
    sha256: str
    cells: int
    measured_genes: int
    tokens: int
    bins: np.ndarray


def write_store(folder: Path, sources: Sequence[SampleSource], meta: StoreMeta) -> StoreMeta:
    """Write a token store, one sample after the other, and publish it when it is complete.

    It is read back before; a store that stood there stays until then.

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
    with only_one(folder), publish(folder) as unfinished:
        unfinished.mkdir()
        done: list[_Written] = []
        with ExitStack() as stack:
            files = {name: stack.enter_context((unfinished / name).open("wb")) for name in DATA}
            for name, first in FIRST_BYTES.items():
                files[name].write(first)
            for source in sources:
                done.append(_append(files, source, done, meta["n_bins"]))
            for file in files.values():
                _wait_for_disk(file)
        return _complete(folder, unfinished, {"format": FORMAT, **meta}, done)


def _require_different(folder: Path, names: list[str]) -> None:
    if not names:
        raise ValueError(f"{folder}: there is no file of cells to write. Name at least one.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"sample '{twice}' appears twice, but cells find their sample's genes by its name. "
            "Leave one out, or give the files other names."
        )


def _append(
    files: Mapping[str, IO[bytes]], source: SampleSource, done: list[_Written], n_bins: int
) -> _Written:
    """Write a sample behind those that are done."""
    sample = source.read()
    before = sum(one.tokens for one in done)
    for name, values in _content(sample, source.sample, len(done), before).items():
        files[name].write(values)
    bins = np.bincount(bins_of_levels(sample.levels.data, n_bins), minlength=n_bins + 1)
    bins[0] += sample.below_one
    n_cells, tokens = len(sample.cells), sample.levels.nnz
    log.info("%s: %s cells, %s tokens", source.sample, f"{n_cells:,}", f"{tokens:,}")
    return _Written(source.sample, source.sha256, n_cells, len(sample.measured), tokens, bins)


def _content(sample: Sample, name: str, number: int, before: int) -> dict[str, memoryview | bytes]:
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
    folder: Path, unfinished: Path, settings: StoreMeta, done: list[_Written]
) -> StoreMeta:
    """Check the files as a reader does, and write what they are."""
    bins = np.sum([one.bins for one in done], axis=0)
    meta: StoreMeta = {
        **settings,
        "cells": sum(one.cells for one in done),
        "tokens": sum(one.tokens for one in done),
        "bins": {str(number): int(n) for number, n in enumerate(bins)},
        "sources": [
            {
                "sample": one.sample,
                "sha256": one.sha256,
                "cells": one.cells,
                "measured_genes": one.measured_genes,
            }
            for one in done
        ],
        "files": {name: {"bytes": (unfinished / name).stat().st_size} for name in DATA},
    }
    if not meta["cells"]:
        raise ValueError(
            f"{folder}: none of the {len(done)} samples has a cell, so there is nothing to learn "
            "from. See why quality control left them out (results/counts/SAMPLE.json)."
        )
    for name, sha256 in check_files(unfinished, meta):
        meta["files"][name]["sha256"] = sha256
    meta["tokens_per_cell"] = _lengths(unfinished / "indptr.i64", meta["vocabulary_size"])
    write_json(unfinished / "meta.json", meta)
    (unfinished / "meta.sha256").write_bytes(checksum_line(unfinished / "meta.json"))
    return meta


def _lengths(indptr: Path, vocabulary_size: int) -> TokensPerCell:
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
