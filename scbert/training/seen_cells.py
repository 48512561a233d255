"""Record of the training cells, so that a test on the same counts is noticed by any name.

A cell is known by two things. Eight bytes of the BLAKE2 digest of its tokens, genes and bins, which
tell it only in a file with the same genes. And which of the model's `genes` it expresses, a bit
each, which tell it as well after genes were left out or values were taken to another scale. The
bits hold no levels of expression, but they are data of each cell.

Gene filters, another scale of the values and other names leave one thing as it was: of the genes
that are still there, those that a training cell expresses are the highest of the same cell in the
test file. A token is a gene above 1 of log2(1 + CP10K), so that in deep cells others, lower ones,
are expressed as well; how many cannot be known after genes were left out.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy import sparse

from scbert.experts.linear import expression_of
from scbert.tokens.store import TokenStore

FEWEST_TOKENS = 20  # cells with fewer may be alike by chance
COMMON, VARIABLE = 512, 1024  # genes whose expression is kept: 192 bytes a cell
HIGHLY_VARIABLE = 2000  # as many as are usually selected
BINS_OF_MEAN = 20  # as Seurat and scanpy take
CELLS_AT_ONCE = 4096
ALIKE = 0.9  # shared genes of the two, of the genes of either
FEWEST_EXPRESSED = 12  # shared genes of a cell, below which two may be alike by chance
FEWEST_SHARED = 100  # genes of all, below which the same holds
MOST_LEFT_OUT = 0.2  # of a panel that has hardly more
CELLS_COMPARED = 2048
GROUPS = 8  # of training cells with about as many genes


@dataclass(frozen=True)
class SeenCells:
    """The cells of the training and the validation.

    `fingerprint` uint64 (cells with tokens enough,). `genes` int32 (G,) are numbers of the
    vocabulary, and `expressed` uint8 (cells, ceil(G / 8)) holds a bit for each.
    """

    fingerprint: np.ndarray
    genes: np.ndarray
    expressed: np.ndarray


def seen_cells(store: TokenStore, rows: np.ndarray) -> SeenCells:
    """Return what is kept of these cells, in an order that says nothing."""
    found = fingerprints(store, rows)
    genes = _telling_genes(store, rows)
    bits = [
        np.packbits(expression_of(store, part)[:, genes].toarray() > 0, axis=1)
        for part in _parts(rows)
    ]
    width = -(-len(genes) // 8)
    expressed = np.unique(np.concatenate([np.zeros((0, width), np.uint8), *bits]), axis=0)
    return SeenCells(np.unique(found[found > 0]), genes.astype(np.int32), expressed)


def fingerprints(store: TokenStore, rows: np.ndarray) -> np.ndarray:
    """Return a number for each cell, uint64; 0 for those with too few tokens to be told apart."""
    return np.array([_fingerprint(*store.tokens(row)) for row in rows], dtype=np.uint64)


def _fingerprint(genes: np.ndarray, bins: np.ndarray) -> int:
    if len(genes) < FEWEST_TOKENS:
        return 0
    tokens = genes.astype("<u2").tobytes() + bins.astype("u1").tobytes()
    return int.from_bytes(hashlib.blake2b(tokens, digest_size=8).digest(), "little")


def _telling_genes(store: TokenStore, rows: np.ndarray) -> np.ndarray:
    """Return the genes by which cells can be told apart, ascending.

    Those that nearest to half of the cells express tell most. Where highly variable genes were
    selected few of them are left, so that the most telling of these are taken as well.
    """
    n_genes = store.measured.shape[1]
    cells, total, squares = np.zeros((3, n_genes))
    for part in _parts(rows):
        linear = expression_of(store, part).astype(np.float64)
        # Seurat's dispersion is of counts, not of their logarithms.
        linear.data = np.exp2(linear.data) - 1
        cells += linear.getnnz(axis=0)
        total += np.asarray(linear.sum(axis=0)).ravel()
        squares += np.asarray(linear.multiply(linear).sum(axis=0)).ravel()
    n = max(len(rows), 1)
    order = np.argsort(np.abs(cells / n - 0.5), kind="stable")
    order = order[cells[order] > 0]
    variable = _highly_variable(total / n, squares / n)[order]
    rest = order[COMMON:][variable[COMMON:]]
    return np.sort(np.concatenate([order[:COMMON], rest[:VARIABLE]]))


def _highly_variable(mean: np.ndarray, mean_square: np.ndarray) -> np.ndarray:
    """Return which genes vary most for their mean, bool (genes,), as Seurat's first method does."""
    found = np.zeros(len(mean), dtype=bool)
    expressed = np.flatnonzero(mean > 0)
    dispersion = np.log((mean_square[expressed] - mean[expressed] ** 2) / mean[expressed] + 1e-12)
    level = np.log1p(mean[expressed])
    edges = np.linspace(0, level.max(initial=1), BINS_OF_MEAN + 1)
    group = np.clip(np.digitize(level, edges) - 1, 0, BINS_OF_MEAN - 1)
    for one in range(BINS_OF_MEAN):
        values = dispersion[group == one]
        if len(values):
            dispersion[group == one] = (values - values.mean()) / (values.std() or 1)
    found[expressed[np.argsort(-dispersion, kind="stable")[:HIGHLY_VARIABLE]]] = True
    return found


def _parts(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), CELLS_AT_ONCE):
        yield rows[start : start + CELLS_AT_ONCE]


def save_seen(path: Path, seen: SeenCells) -> None:
    """Write what is kept of the cells as safetensors."""
    save_file(vars(seen), path)


def load_seen(path: Path, n_genes: int) -> SeenCells:
    """Read what is kept of the cells.

    Parameters
    ----------
    n_genes
        Of the vocabulary.

    Raises
    ------
    KeyError, ValueError
        If an array is missing, of another type or shape, or does not fit the vocabulary.
    """
    arrays = load_file(path)
    found = SeenCells(arrays["fingerprint"], arrays["genes"], arrays["expressed"])
    if found.fingerprint.dtype != np.uint64 or found.fingerprint.ndim != 1:
        raise ValueError(
            f"{path} holds {found.fingerprint.dtype} of shape {found.fingerprint.shape}, but whole "
            "numbers of 64 bits, one per cell, are needed. Copy the folder again from where it was "
            "made."
        )
    if not _fit(found, n_genes):
        raise ValueError(
            f"{path} holds genes and bits that do not belong together or not to the {n_genes:,} "
            "genes of the model. Copy the folder again from where it was made."
        )
    return found


def _fit(seen: SeenCells, n_genes: int) -> bool:
    genes, bits = seen.genes, seen.expressed
    if genes.dtype != np.int32 or genes.ndim != 1:
        return False
    ascending = np.all(np.diff(genes) > 0) and np.all((genes >= 0) & (genes < n_genes))
    return bool(ascending) and bits.dtype == np.uint8 and bits.shape[1:] == (-(-len(genes) // 8),)


@dataclass(frozen=True)
class Recognized:
    """Which cells are training cells, and which have genes enough to be compared; bool (cells,)."""

    seen: np.ndarray
    compared: np.ndarray


@dataclass(frozen=True)
class _TrainingCells:
    """`expressed` float32 (cells, shared genes), of which each cell has `n`, int64 (cells,)."""

    expressed: np.ndarray
    n: np.ndarray


def recognize(seen: SeenCells, expression: sparse.csr_matrix) -> Recognized:
    """Compare cells with those of the training, over the genes that both have.

    Parameters
    ----------
    expression
        Shape (cells, vocabulary), on any scale that keeps the order of a cell's values; 0 is not
        expressed.
    """
    none = np.zeros(expression.shape[0], dtype=bool)
    genes = expression.tocsc()[:, seen.genes]
    shared = np.flatnonzero(genes.getnnz(axis=0))  # a gene without any count may be one left out
    if len(shared) < min(FEWEST_SHARED, (1 - MOST_LEFT_OUT) * len(seen.genes)):
        return Recognized(none, none)
    cells = genes[:, shared].tocsr()
    groups = list(_groups(seen, shared))
    found = [
        _alike(cells[start : start + CELLS_COMPARED].toarray(), groups)
        for start in range(0, cells.shape[0], CELLS_COMPARED)
    ]
    return Recognized(np.concatenate([none[:0], *found]), cells.getnnz(axis=1) >= FEWEST_EXPRESSED)


def _groups(seen: SeenCells, shared: np.ndarray) -> Iterator[_TrainingCells]:
    """Yield training cells that express about as many of the shared genes."""
    for start in range(0, len(seen.expressed), CELLS_COMPARED * GROUPS):
        packed = seen.expressed[start : start + CELLS_COMPARED * GROUPS]
        bits = np.unpackbits(packed, axis=1, count=len(seen.genes))[:, shared]
        n = bits.sum(axis=1, dtype=np.int64)
        order = np.argsort(n, kind="stable")
        for rows in np.array_split(order[n[order] >= FEWEST_EXPRESSED], GROUPS):
            if len(rows):
                yield _TrainingCells(bits[rows].astype(np.float32), n[rows])


def _alike(values: np.ndarray, groups: list[_TrainingCells]) -> np.ndarray:
    """Return which cells are like a training cell; `values` has shape (cells, shared genes)."""
    found = np.zeros(len(values), dtype=bool)
    highest = -np.sort(-values, axis=1)
    for group in groups:
        # With as many genes as the fullest cell of the group: too many for others, never too few.
        candidates = _highest(values, highest[:, group.n.max() - 1, None])
        shared = candidates.astype(np.float32) @ group.expressed.T
        cell, other = np.nonzero(shared >= ALIKE * group.n)
        for start in range(0, len(cell), CELLS_COMPARED):
            pairs = slice(start, start + CELLS_COMPARED)
            one, two = cell[pairs], other[pairs]
            expressed = group.expressed[two] > 0
            own = _highest(values[one], highest[one, group.n[two] - 1, None])
            both, either = (own & expressed).sum(axis=1), (own | expressed).sum(axis=1)
            found[one[both >= ALIKE * either]] = True
    return found


def _highest(values: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Return the expressed genes of at least this value; equal ones are all among them."""
    return (values >= least) & (values > 0)
