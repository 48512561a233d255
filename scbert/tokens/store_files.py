"""The files of a token store: their description in meta.json, and checks that read each once."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np

from scbert.tokens.tokenize import HIGHEST_LEVEL, LEVELS

FORMAT = 3
# In the order in which they are checked: what a check relies on comes first.
DTYPES = {
    "indptr.i64": "<i8",
    "sample.u32": "<u4",
    "measured.u8": "u1",
    "level.u8": "u1",
    "gene.u16": "<u2",
}
PART = 1 << 22  # values at once
Check = Callable[[np.ndarray, int], str]


class StoreSource(TypedDict):
    """A file of cells that tokens were made of."""

    sample: str
    sha256: str
    cells: int
    measured_genes: int


class StoreFile(TypedDict, total=False):
    """Size and SHA-256 of a file of the store."""

    bytes: int
    sha256: str


class TokensPerCell(TypedDict):
    """How many tokens cells have."""

    min: int
    median: float
    max: int


class StoreMeta(TypedDict, total=False):
    """Content of meta.json: what a store is made of; empty of a store in memory.

    A dictionary, for models keep it as it was read.
    """

    format: int
    store: str  # the name of its folder
    n_bins: int
    vocabulary_size: int
    vocabulary_sha256: str
    versions: dict[str, str]  # of Python and packages
    cells: int
    tokens: int
    bins: dict[str, int]  # tokens in each bin; in bin 0 the expressed genes below 1
    sources: list[StoreSource]
    files: dict[str, StoreFile]  # but meta.json itself
    tokens_per_cell: TokensPerCell


def shapes(meta: StoreMeta) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array."""
    return {
        "indptr.i64": (meta["cells"] + 1,),
        "sample.u32": (meta["cells"],),
        "measured.u8": (len(meta["sources"]), meta["vocabulary_size"]),
        "level.u8": (meta["tokens"],),
        "gene.u16": (meta["tokens"],),
    }


def damaged_store(path: Path, why: str) -> ValueError:
    """Return the error of a file that cannot be trusted."""
    return ValueError(
        f"{path} is damaged: {why}. Delete {path.parent} and write the store again (rule "
        "bin_expression), or restore the folder from a copy."
    )


def check_files(folder: Path, meta: StoreMeta) -> Iterator[tuple[str, str]]:
    """Read each file once and yield its name and SHA-256, if it holds what a store must hold.

    Raises
    ------
    ValueError
        If a file is missing, has another size, or holds what it cannot.
    """
    require_sizes(folder, meta)
    yield "cells.tsv", _read(folder / "cells.tsv", "u1", None)
    for name in shapes(meta):
        yield name, _read(folder / name, DTYPES[name], _check_of(name, folder, meta))


def require_sizes(folder: Path, meta: StoreMeta) -> None:
    """Refuse a store of which a file is missing or has another size."""
    needed = {"cells.tsv": meta["files"]["cells.tsv"]["bytes"]}
    for name, shape in shapes(meta).items():
        needed[name] = int(np.prod(shape)) * np.dtype(DTYPES[name]).itemsize
    for name, size in needed.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            has = "is missing" if found is None else f"has {found} bytes"
            raise damaged_store(path, f"it {has}, but {size} are needed")


def _read(path: Path, dtype: str, check: Check | None) -> str:
    digest, begin = hashlib.sha256(), 0
    with path.open("rb") as handle:
        while len(values := np.fromfile(handle, dtype, PART)):
            wrong = check(values, begin) if check else ""
            if wrong:
                raise damaged_store(path, wrong)
            digest.update(values.data)
            begin += len(values)
    return digest.hexdigest()


def _check_of(name: str, folder: Path, meta: StoreMeta) -> Check:
    if name == "indptr.i64":
        return _Rising(meta["tokens"], meta["cells"])
    if name == "gene.u16":
        indptr = np.memmap(folder / "indptr.i64", "<i8", mode="r")
        return _Genes(indptr, meta["vocabulary_size"])
    lowest, highest, what = {
        "sample.u32": (0, len(meta["sources"]) - 1, "sample"),
        "measured.u8": (0, 1, "truth value"),
        "level.u8": (LEVELS, HIGHEST_LEVEL, "level"),
    }[name]

    def check(values: np.ndarray, begin: int) -> str:
        outside = (values < lowest) | (values > highest)
        if not outside.any():
            return ""
        place = int(outside.argmax())
        return f"{what} {values[place]} at {begin + place} is not in {lowest} to {highest}"

    return check


class _Rising:
    """Whether indptr rises from 0 to the number of tokens."""

    def __init__(self, tokens: int, cells: int) -> None:
        self.tokens, self.cells, self.before = tokens, cells, 0

    def __call__(self, values: np.ndarray, begin: int) -> str:
        rises = values[0] >= self.before and (values[1:] >= values[:-1]).all()
        first = begin > 0 or values[0] == 0
        last = begin + len(values) <= self.cells or values[-1] == self.tokens
        self.before = values[-1]
        return "" if rises and first and last else f"it does not rise from 0 to {self.tokens}"


class _Genes:
    """Whether genes are in the vocabulary and ascend within each cell."""

    def __init__(self, indptr: np.ndarray, vocabulary_size: int) -> None:
        self.indptr, self.vocabulary_size, self.before = indptr, vocabulary_size, -1

    def __call__(self, values: np.ndarray, begin: int) -> str:
        if values.max() >= self.vocabulary_size:
            return f"gene {values.max()} is not in the vocabulary of {self.vocabulary_size}"
        ascends = np.empty(len(values), dtype=bool)
        ascends[0], ascends[1:] = values[0] > self.before, values[1:] > values[:-1]
        first, last = np.searchsorted(self.indptr, [begin, begin + len(values)])
        ascends[self.indptr[first:last] - begin] = True  # where a cell begins
        self.before = int(values[-1])
        if ascends.all():
            return ""
        place = begin + int(ascends.argmin())
        cell = int(np.searchsorted(self.indptr, place, side="right")) - 1
        return f"the genes of cell {cell} are not in ascending order"
