"""The tokens of many cells on disk: a cell is a slice of two arrays, the corpus never in memory.

A store is a folder; numbers are little-endian, without headers:
gene.u16 (tokens,), level.u8 (tokens,) · indptr.i64 (cells + 1,) where each cell begins · sample.u32
(cells,) which sample it is of · measured.u8 (samples, vocabulary), 0 or 1 · cells.tsv the names ·
meta.json what it is made of, and size and SHA-256 of the files · meta.sha256 that of meta.json.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from scbert.files import checksum_line, read_json
from scbert.tokens.store_files import (
    DTYPES,
    FORMAT,
    StoreMeta,
    check_files,
    damaged_store,
    require_sizes,
    shapes,
)
from scbert.tokens.tokenize import Sample, bins_of_levels

NEEDED = ("cells", "tokens", "n_bins", "vocabulary_size", "vocabulary_sha256", "sources", "files")
COUNTS = ("cells", "tokens", "n_bins", "vocabulary_size")
NAMES_AT_ONCE = 100_000


@dataclass(frozen=True)
class TokenStore:
    """Tokens of cells, on disk or in memory.

    `gene` uint16 and `level` uint8 have shape (tokens,), `indptr` int64 (cells + 1,), `sample`
    (cells,) says which row of `measured`, bool (samples, vocabulary), belongs to a cell. `names`
    are the names of the cells, or the table on disk that holds them; see `cell_names`.
    """

    gene: np.ndarray
    level: np.ndarray
    n_bins: int
    indptr: np.ndarray
    sample: np.ndarray
    measured: np.ndarray
    names: list[str] | Path
    meta: StoreMeta

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each cell, int32, shape (cells,)."""
        ends = self.indptr[1:], self.indptr[:-1]
        return np.subtract(*ends, dtype=np.int32, casting="unsafe")  # half the memory, no copy

    def tokens(self, cell: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the genes (ascending) and bins of a cell."""
        span = slice(self.indptr[cell], self.indptr[cell + 1])
        return self.gene[span], self.bins(span)

    def bins(self, span: slice) -> np.ndarray:
        """Return the bins of a run of tokens, uint8."""
        return bins_of_levels(self.level[span], self.n_bins)

    def release(self) -> None:
        """Let go of the pages of the files that were read, which count as memory of this process.

        They stay in the system's cache as long as there is room. A scheduler that adds up resident
        memory, as Slurm does by default, would otherwise see the process grow by the whole store.
        """
        for array in (self.gene, self.level, self.sample):
            if isinstance(array.base, mmap.mmap):
                array.base.madvise(mmap.MADV_DONTNEED)

    def measured_genes(self, cell: int) -> np.ndarray:
        """Return the genes of the vocabulary that were measured in the cell's sample, ascending."""
        return np.flatnonzero(self.measured[self.sample[cell]])

    def cell_names(self, rows: np.ndarray | None = None) -> list[str]:
        """Return the names of cells, in the order of `rows`; of all cells if there are none.

        A table on disk is read from its beginning, a part at a time: ask once for many cells.
        """
        rows = np.arange(len(self)) if rows is None else np.asarray(rows)
        if isinstance(self.names, list):
            return [self.names[row] for row in rows]
        found = np.empty(len(rows), dtype=object)
        read = 0
        try:
            for names in _parts_of_names(self.names):
                here = (rows >= read) & (rows < read + len(names))
                found[here] = names[rows[here] - read]
                read += len(names)
        except (ValueError, KeyError) as error:  # ValueError: also what is not UTF-8
            raise damaged_store(self.names, str(error).strip()) from error
        if read != len(self):
            raise damaged_store(self.names, f"it names {read} of {len(self)} cells")
        return found.tolist()


def _parts_of_names(path: Path) -> Iterator[np.ndarray]:
    parts = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, chunksize=NAMES_AT_ONCE)
    for table in parts:
        yield table["cell"].to_numpy()


def store_in_memory(sample: Sample) -> TokenStore:
    """Hold the tokens of one sample without a file."""
    levels = sample.levels
    return TokenStore(
        gene=levels.indices.astype(np.uint16),
        level=levels.data,
        n_bins=sample.n_bins,
        indptr=levels.indptr.astype(np.int64),
        sample=np.zeros(levels.shape[0], dtype=np.uint32),
        measured=sample.measured_row()[None, :],
        names=sample.cells,
        meta={},
    )


def open_store(folder: Path, verify: bool = True) -> TokenStore:
    """Check every file of a token store and open it, without reading it into memory.

    Every byte is read once, which costs seconds for a million cells; what is trained on it costs
    hours.

    Parameters
    ----------
    verify
        False: only sizes are checked, for another process of this machine has just read it all.

    Raises
    ------
    ValueError
        If a file is missing or is not what was written, or the files do not fit together.
    """
    meta = _read_meta(folder)
    require_sizes(folder, meta)
    for name, sha256 in check_files(folder, meta) if verify else ():
        if sha256 != meta["files"][name]["sha256"]:
            raise damaged_store(folder / name, "it is not what was written (its SHA-256 differs)")
    maps = {name: _map(folder / name, shape) for name, shape in shapes(meta).items()}
    return TokenStore(
        gene=maps["gene.u16"],
        level=maps["level.u8"],
        n_bins=meta["n_bins"],
        indptr=maps["indptr.i64"],
        sample=maps["sample.u32"],
        measured=maps["measured.u8"].view(bool),
        names=folder / "cells.tsv",
        meta=meta,
    )


def _read_meta(folder: Path) -> StoreMeta:
    path, sha256 = folder / "meta.json", folder / "meta.sha256"
    if not path.is_file():
        raise ValueError(f"{path} does not exist, so this is not a token store. Write it again.")
    if not sha256.is_file():
        raise damaged_store(sha256, "it is missing, or the store is of format 1, which had none")
    if sha256.read_bytes() != checksum_line(path):
        raise damaged_store(path, f"it is not what {sha256.name} says that was written")
    meta: dict[str, Any] = read_json(path)
    if not isinstance(meta, dict):
        raise damaged_store(path, "it holds no object")
    if meta.get("format") != FORMAT:
        raise ValueError(
            f"{folder} has format {meta.get('format')}, this version reads {FORMAT}. "
            "Write the store again."
        )
    missing = [key for key in NEEDED if key not in meta]
    if missing:
        raise damaged_store(path, f"it lacks {', '.join(missing)}")
    wrong = [key for key in COUNTS if type(meta[key]) is not int or meta[key] < 0]
    if wrong:
        raise damaged_store(path, f"{wrong[0]} is {meta[wrong[0]]!r}, not a number of things")
    return cast("StoreMeta", meta)


def _map(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if 0 in shape:  # an empty file cannot be mapped
        return np.empty(shape, DTYPES[path.name])
    return np.memmap(path, DTYPES[path.name], mode="r", shape=shape)


def require_same_vocabulary(store: TokenStore, sha256: str, tokens: Path) -> None:
    """Refuse tokens that were made with another vocabulary: gene numbers would mean other genes."""
    if store.meta["vocabulary_sha256"] != sha256:
        raise ValueError(f"{tokens} was written for another vocabulary. Bin the expression again.")
