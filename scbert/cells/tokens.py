"""Expression -> tokens, and the store that holds the tokens of many cells on disk.

A token is a gene and the bin of its expression. Only genes with bin >= 1 are stored: a cell is a
slice of three arrays, so a corpus is never in memory.
Source of the bins: Yang et al. 2022, Methods; scBERT@262fd4b, pretrain.py (floor of log2(1 +
CP10K)).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.tables import read_table, write_table
from scbert.files import publish, read_json, write_json

FORMAT = 1


def bin_expression(expression: sparse.csr_matrix, n_bins: int) -> sparse.csr_matrix:
    """Replace each expression value by the number of its bin.

    Parameters
    ----------
    expression
        Shape (cells, genes), in log2(1 + counts per 10 000).
    n_bins
        Number of bins above bin 0; larger values fall into the last one.

    Returns
    -------
    Shape (cells, genes), uint8. Bin b holds [b, b + 1): bin 0 holds silent genes and also expressed
    genes below 1, and is not stored.

    Raises
    ------
    ValueError
        If a value is negative or NaN: the matrix is then not log-normalised.
    """
    lowest = expression.data.min() if expression.nnz else 0
    if not lowest >= 0:
        raise ValueError(
            f"expression holds {lowest}, but log2(1 + CP10K) is never negative. "
            "Pass the output of normalize(), not scaled or raw data."
        )
    bins = np.minimum(expression.data, n_bins).astype(np.uint8)  # the cast floors
    tokens = sparse.csr_matrix(
        (bins, expression.indices.copy(), expression.indptr.copy()), shape=expression.shape
    )
    tokens.eliminate_zeros()
    tokens.sort_indices()
    return tokens


@dataclass(frozen=True)
class Sample:
    """The tokens of one file of cells.

    `bins` has shape (cells, vocabulary), uint8; `measured` holds the genes of the vocabulary that
    the file measured, ascending: a gene that is missing there is unknown, not silent. `below_one`
    counts the expressed genes that fell into bin 0.
    """

    name: str
    cells: list[str]
    bins: sparse.csr_matrix
    measured: np.ndarray
    below_one: int


@dataclass(frozen=True)
class TokenStore:
    """Tokens of cells, on disk or in memory.

    `gene` uint16 and `bin` uint8 have shape (tokens,), `indptr` int64 (cells + 1,), `sample`
    (cells,) says which row of `measured`, bool (samples, vocabulary), belongs to a cell.
    """

    gene: np.ndarray
    bin: np.ndarray
    indptr: np.ndarray
    sample: np.ndarray
    measured: np.ndarray
    cells: list[str]
    meta: dict[str, Any]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each cell, shape (cells,)."""
        return np.diff(self.indptr)

    def tokens(self, cell: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the genes (ascending) and bins of a cell."""
        span = slice(self.indptr[cell], self.indptr[cell + 1])
        return self.gene[span], self.bin[span]

    def measured_genes(self, cell: int) -> np.ndarray:
        """Return the genes of the vocabulary that were measured in the cell's sample, ascending."""
        return np.flatnonzero(self.measured[self.sample[cell]])


def store_in_memory(sample: Sample) -> TokenStore:
    """Hold the tokens of one sample without a file."""
    bins = sample.bins
    return TokenStore(
        gene=bins.indices.astype(np.uint16),
        bin=bins.data,
        indptr=bins.indptr.astype(np.int64),
        sample=np.zeros(bins.shape[0], dtype=np.int64),
        measured=_measured_row(sample)[None, :],
        cells=sample.cells,
        meta={},
    )


def _measured_row(sample: Sample) -> np.ndarray:
    row = np.zeros(sample.bins.shape[1], dtype=bool)
    row[sample.measured] = True
    return row


def write_store(folder: Path, samples: Iterable[Sample], meta: dict[str, Any]) -> dict[str, Any]:
    """Write a token store, one sample after the other, and publish it when it is complete.

    Parameters
    ----------
    meta
        What the store says about itself: at least n_bins and vocabulary_sha256.

    Returns
    -------
    `meta` with what was counted while writing.

    Raises
    ------
    ValueError
        If there is no sample, or one without cells, or two of the same name.
    """
    names: list[str] = []
    lengths: list[np.ndarray] = []
    measured: list[np.ndarray] = []
    cells: list[pd.DataFrame] = []
    bin_counts = np.zeros(meta["n_bins"] + 1, dtype=np.int64)
    with publish(folder) as unfinished:
        unfinished.mkdir()
        with (
            (unfinished / "gene.u16").open("wb") as gene,
            (unfinished / "bin.u8").open("wb") as bins,
        ):
            for sample in samples:
                _require_new(sample, names)
                names.append(sample.name)
                gene.write(sample.bins.indices.astype("<u2").tobytes())
                bins.write(sample.bins.data.tobytes())
                bin_counts += np.bincount(sample.bins.data, minlength=len(bin_counts))
                bin_counts[0] += sample.below_one
                lengths.append(np.diff(sample.bins.indptr))
                measured.append(_measured_row(sample))
                cells.append(pd.DataFrame({"cell": sample.cells, "sample": sample.name}))
        if not names:
            raise ValueError(f"{folder}: there is no file of cells to write. Name at least one.")
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype("<i8")
        indptr.tofile(unfinished / "indptr.i64")
        np.save(unfinished / "measured.npy", np.stack(measured))
        write_table(unfinished / "cells.tsv", pd.concat(cells))
        complete = {"format": FORMAT, **meta, **_summary(indptr, bin_counts)}
        write_json(unfinished / "meta.json", complete)
    return complete


def _require_new(sample: Sample, names: list[str]) -> None:
    if not sample.cells or sample.name in names:
        found = "appears twice" if sample.cells else "has no cells"
        raise ValueError(
            f"sample '{sample.name}' {found}, but cells find their sample's genes by its name. "
            "Leave it out, or give the files other names."
        )


def _summary(indptr: np.ndarray, bin_counts: np.ndarray) -> dict[str, Any]:
    per_cell = np.diff(indptr)
    return {
        "cells": len(per_cell),
        "tokens": int(indptr[-1]),
        "bins": {str(number): int(count) for number, count in enumerate(bin_counts)},
        "tokens_per_cell": {
            "min": int(per_cell.min()),
            "median": float(np.median(per_cell)),
            "max": int(per_cell.max()),
        },
    }


def open_store(folder: Path) -> TokenStore:
    """Open a token store without reading it into memory.

    Raises
    ------
    ValueError
        If a file is missing, truncated or does not fit the others.
    """
    meta = _read_meta(folder / "meta.json")
    indptr = _map(folder / "indptr.i64", "<i8", meta["cells"] + 1)
    if indptr[0] != 0 or indptr[-1] != meta["tokens"] or (np.diff(indptr) < 0).any():
        raise ValueError(
            f"{folder}/indptr.i64 is damaged: it does not rise from 0 to {meta['tokens']}. Write "
            "it again."
        )
    cells = _read_cells(folder / "cells.tsv", meta["cells"])
    sample, names = pd.factorize(cells["sample"])
    return TokenStore(
        gene=_map(folder / "gene.u16", "<u2", meta["tokens"]),
        bin=_map(folder / "bin.u8", "u1", meta["tokens"]),
        indptr=indptr,
        sample=sample,
        measured=_read_measured(folder / "measured.npy", len(names)),
        cells=cells.cell.tolist(),
        meta=meta,
    )


def _read_meta(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist, so this is no token store. Write it again.")
    meta = read_json(path)
    if meta.get("format") != FORMAT:
        raise ValueError(
            f"{path.parent} has format {meta.get('format')}, this version reads {FORMAT}. "
            "Write it again."
        )
    missing = [key for key in ("cells", "tokens", "n_bins", "vocabulary_sha256") if key not in meta]
    if missing:
        raise ValueError(f"{path} is damaged: it lacks {', '.join(missing)}. Write it again.")
    return meta


def _read_cells(path: Path, n_cells: int) -> pd.DataFrame:
    if not path.is_file() or path.stat().st_size == 0:
        raise ValueError(f"{path} is missing or empty: it is damaged. Write the store again.")
    cells = read_table(path, "cell", "sample")
    if len(cells) != n_cells:
        raise ValueError(
            f"{path} lists {len(cells)} cells, but the store holds {n_cells}: it is damaged. "
            "Write the store again."
        )
    return cells


def _read_measured(path: Path, n_samples: int) -> np.ndarray:
    try:
        measured = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}). Write the store again.") from error
    if measured.ndim != 2 or len(measured) != n_samples or measured.dtype != bool:
        raise ValueError(
            f"{path} has shape {measured.shape} and type {measured.dtype}, but a line of truth "
            f"values is needed for each of {n_samples} samples: it is damaged. "
            "Write the store again."
        )
    return measured


def _map(path: Path, dtype: str, length: int) -> np.ndarray:
    expected = length * np.dtype(dtype).itemsize
    found = path.stat().st_size if path.is_file() else 0
    if found != expected:
        raise ValueError(
            f"{path} has {found} bytes, but {expected} are needed: it is damaged. Write the "
            "store again."
        )
    return np.memmap(path, dtype=dtype, mode="r", shape=(length,)) if length else np.empty(0, dtype)
