"""A token store as small as it gets: for carrying it to a machine without network.

Tokens are written gene by gene, the most widely expressed gene of a sample first: the cells that
express it as distances, then their bins. A distance is a byte, 255 for each 255 cells and the rest.
In this order neighbouring bytes are alike, and LZMA comes within a tenth of what the frequencies
of genes and of their bins allow: 4.8 bits a token, where cell by cell they take 9.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import sparse

from scbert.files import read_json, sha256_of, write_json
from scbert.tokens.store import TokenStore, open_store
from scbert.tokens.tokenize import LEVELS, bins_of_levels

FAR = 255  # cells
COPIED = ("meta.json", "meta.sha256")
MADE = ("cells.tsv", "measured.u8", "cells_per_gene.u32", "gaps.u8", "bins.u8")


def round_to_bins(folder: Path, rounded: Path) -> Path:
    """Write a store whose levels are those of its bins, all that the network reads, and return it.

    Levels within a bin are for the experts; they would double what is carried.
    """
    shutil.copytree(folder, rounded)
    store = open_store(folder)
    levels = bins_of_levels(np.asarray(store.level), store.n_bins) * np.uint8(LEVELS)
    levels.tofile(rounded / "level.u8")
    meta = read_json(folder / "meta.json")
    meta["rounded_from_sha256"] = sha256_of(folder / "meta.json")
    meta["files"]["level.u8"]["sha256"] = sha256_of(rounded / "level.u8")
    write_json(rounded / "meta.json", meta)
    (rounded / "meta.sha256").write_text(f"{sha256_of(rounded / 'meta.json')}  meta.json\n")
    return rounded


def pack_store(folder: Path) -> dict[str, bytes]:
    """Return the members of an archive from which `restore_store` writes the store again."""
    store = open_store(folder)
    per_sample = [_by_gene(store, number) for number in range(len(store.meta["sources"]))]
    counts, gaps, bins = (b"".join(parts) for parts in zip(*per_sample, strict=True))
    copied = {name: (folder / name).read_bytes() for name in (*COPIED, *MADE[:2])}
    return copied | dict(zip(MADE[2:], (counts, gaps, bins), strict=True))


def restore_store(members: Mapping[str, bytes], folder: Path) -> TokenStore:
    """Write the store that was packed; `open_store` checks the SHA-256 of each of its files."""
    folder.mkdir(parents=True)
    for name in (*COPIED, *MADE[:2]):
        (folder / name).write_bytes(members[name])
    meta = read_json(folder / "meta.json")
    sizes = [source["cells"] for source in meta["sources"]]
    counts = np.frombuffer(members["cells_per_gene.u32"], "<u4").reshape(len(sizes), -1)
    gaps = _from_bytes(np.frombuffer(members["gaps.u8"], "u1"))
    bins = np.frombuffer(members["bins.u8"], "u1")
    ends = counts.sum(axis=1, dtype=np.int64).cumsum()[:-1]
    parts = zip(counts, np.split(gaps, ends), np.split(bins, ends), sizes, strict=True)
    _write_tokens([_by_cell(*part) for part in parts], sizes, folder)
    return open_store(folder)


def restore_part(
    whole: Path, members: Mapping[str, bytes], genes: np.ndarray, folder: Path
) -> TokenStore:
    """Write a store of some samples of a whole one.

    Parameters
    ----------
    members
        meta.json and meta.sha256 of the part.
    genes
        Shape (vocabulary of the part,): which gene of the whole each is.
    """
    folder.mkdir(parents=True)
    for name in COPIED:
        (folder / name).write_bytes(members[name])
    store, meta = open_store(whole), read_json(folder / "meta.json")
    names = [source["sample"] for source in store.meta["sources"]]
    samples = [names.index(source["sample"]) for source in meta["sources"]]
    matrices = [_matrix(store, number)[:, genes] for number in samples]
    _write_tokens(matrices, [matrix.shape[0] for matrix in matrices], folder)
    store.measured[samples][:, genes].tofile(folder / "measured.u8")
    header, *lines = (whole / "cells.tsv").read_bytes().splitlines(keepends=True)
    rows = [row for number in samples for row in np.flatnonzero(store.sample == number)]
    (folder / "cells.tsv").write_bytes(b"".join([header, *(lines[row] for row in rows)]))
    return open_store(folder)


def _matrix(store: TokenStore, number: int) -> sparse.csr_matrix:
    """Return the bins of the cells of a sample, shape (cells, vocabulary)."""
    rows = np.flatnonzero(store.sample == number)
    first, last = (rows[0], rows[-1] + 1) if len(rows) else (0, 0)
    ends = store.indptr[first : last + 1]
    span = slice(ends[0], ends[-1])
    arrays = store.level[span], store.gene[span].astype(np.int32), ends - ends[0]
    return sparse.csr_matrix(arrays, shape=(len(rows), store.meta["vocabulary_size"]))


def _by_gene(store: TokenStore, number: int) -> tuple[bytes, bytes, bytes]:
    """Return how many cells of a sample express each gene, their distances, and their bins."""
    matrix = _matrix(store, number).tocsc()
    counts = np.diff(matrix.indptr)
    matrix = matrix[:, np.argsort(-counts, kind="stable")]
    gaps = np.diff(matrix.indices, prepend=0) - 1
    starts = matrix.indptr[:-1][np.diff(matrix.indptr) > 0]
    gaps[starts] = matrix.indices[starts]
    return counts.astype("<u4").tobytes(), _to_bytes(gaps), matrix.data.astype("u1").tobytes()


def _by_cell(
    counts: np.ndarray, gaps: np.ndarray, bins: np.ndarray, n_cells: int
) -> sparse.csr_matrix:
    """Return the bins of the cells of a sample, as they were before `_by_gene`."""
    order = np.argsort(-counts.astype(np.int64), kind="stable")
    indptr = np.concatenate([[0], counts[order].cumsum(dtype=np.int64)])
    steps = (gaps + 1).cumsum()
    before = np.concatenate([[0], steps])[indptr[:-1]]
    cells = steps - 1 - np.repeat(before, counts[order])
    matrix = sparse.csc_matrix((bins, cells, indptr), shape=(n_cells, len(counts)))
    return matrix[:, np.argsort(order)].tocsr()


def _to_bytes(gaps: np.ndarray) -> bytes:
    far, rest = np.divmod(gaps, FAR)
    coded = np.full(len(gaps) + far.sum(), FAR, dtype="u1")
    coded[(far + 1).cumsum() - 1] = rest
    return coded.tobytes()


def _from_bytes(coded: np.ndarray) -> np.ndarray:
    ends = np.flatnonzero(coded != FAR)
    return coded[ends] + FAR * (np.diff(ends, prepend=-1) - 1)


def _write_tokens(matrices: list[sparse.csr_matrix], sizes: list[int], folder: Path) -> None:
    """Write the arrays of a store, cell by cell and genes ascending."""
    lengths = []
    with (folder / "gene.u16").open("wb") as genes, (folder / "level.u8").open("wb") as bins:
        for matrix in matrices:
            matrix.sort_indices()
            genes.write(matrix.indices.astype("<u2").tobytes())
            bins.write(matrix.data.astype("u1").tobytes())
            lengths.append(np.diff(matrix.indptr))
    ends = np.concatenate([[0], np.concatenate(lengths).cumsum(dtype="<i8")])
    ends.astype("<i8").tofile(folder / "indptr.i64")
    np.repeat(np.arange(len(sizes)), sizes).astype("<u4").tofile(folder / "sample.u32")
