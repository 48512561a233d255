"""One count and one cell: how counts, and the sum to divide them by, are come by from a matrix.

After log1p of S counts per cell, the values of a cell taken back are multiples of one count's,
S / L, where L are all counts of the cell. That S / (S / L) is a whole number in every cell tells S
also where the genes are a few of those that were counted. Where there is no such S, as after
scran's size factors, or several, one count of each cell is still known, and so are the counts.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.cautions import (
    Caution,
    integer_logs,
    mixed_sums,
    only_ones,
    unknown_sum,
    unused_column,
)
from scbert.cells.how_to_read import HowToRead
from scbert.cells.matrix import Parts
from scbert.cells.quality import cell_sums
from scbert.cells.read import library_sizes
from scbert.cells.recover import find_sum, share_of_whole, steps_of
from scbert.cells.scale import EXPECTED_COUNTS, Scale, is_stepwise, scale_of_parts
from scbert.config.cells import TRANSCRIPTOME_GENES

log = logging.getLogger(__name__)
TOTAL_COLUMNS = (
    *("total_counts", "n_counts", "nCount_RNA", "library_size", "n_umi", "nUMI", "total_umis"),
    *("nCount_originalexp", "sum", "total", "n_UMIs", "total_UMIs"),
)
USUAL_SUM = 1e4
LARGEST_ROUNDED_LOG = 15  # of counts per million or fewer, to base 2 or e, it is 14 or 20 at most
MANY_GENES = 300  # a cell that expresses so many has one with more counts than that
OWN_SUM = (
    "Counts were taken back from the smallest value of each cell, one count, and divided by their "
    "own sum."
)
TAKEN_SUM = "{:,.0f} was taken, since the file has {:,} genes only."
SAME = 0.01  # columns may be of another selection of genes
FEWEST_CELLS = 5  # to find groups among


@dataclass(frozen=True)
class Amounts:
    """How the counts of a part of the cells are come by.

    Parameters
    ----------
    library
        All counts of each cell, (cells,), from obs; None: the sum of its counts. Of log1p whose sum
        is known it says nothing new.
    by_step
        Of log1p: what is taken back is divided by one count of its cell.
    assumed
        Of log1p whose sum is unknown, unless `by_step`: the sum that is taken.
    summed
        Whether a cell's sum is that of the genes in the file, and may be less than all its counts.
    """

    scale: Scale
    library: np.ndarray | None
    by_step: bool
    assumed: float
    summed: bool
    cautions: tuple[Caution, ...] = ()

    @property
    def guessed(self) -> bool:
        """Whether the counts are known but for a factor of each cell, as after `assumed`."""
        return self.scale.kind == "log1p" and not (self.by_step or self.scale.target_sum)

    @property
    def of_column(self) -> bool:
        """Whether all counts of each cell are those of the column."""
        return self.library is not None and (self.scale.kind != "log1p" or self.by_step)

    def of(
        self, part: sparse.csr_matrix, rows: slice | np.ndarray
    ) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Return what is proportional to the counts, float64, and the sum of each whole cell."""
        linear = self.scale.linear(part)
        if self.guessed:
            return linear, np.maximum(self.assumed, cell_sums(linear))
        if self.scale.kind == "log1p" and not self.by_step:
            return linear, np.full(part.shape[0], self.scale.target_sum)
        if self.by_step:
            linear = in_steps(linear)
            linear.data = np.round(linear.data)
            linear.eliminate_zeros()
        return linear, cell_sums(linear) if self.library is None else self.library[rows]


def in_steps(linear: sparse.csr_matrix) -> sparse.csr_matrix:
    """Divide by one count of each cell: counts, but for what float arithmetic leaves of them."""
    steps = steps_of(linear)
    factors = np.divide(1, steps, out=np.zeros_like(steps), where=steps > 0)
    return sparse.csr_matrix(sparse.diags_array(factors) @ linear)


def amounts_of(
    parts: Parts,
    obs: pd.DataFrame,
    reading: HowToRead,
    name: str,
    usual: float,
    scale: Scale | None = None,
) -> Amounts:
    """Find out what a matrix holds, and what the cells' counts are; see `scale_of_parts`.

    Parameters
    ----------
    name
        What to call the file in errors.
    usual
        The sum that is taken where nothing tells it.
    scale
        What the matrix holds, if that is known: the matrix is then not read as a whole.

    Raises
    ------
    ValueError
        If it cannot be used, or the column does not hold positive numbers.
    """
    library = library_sizes(obs, reading.library_size_key, name)
    scale = scale or scale_of_parts(parts, reading.scale)
    if scale.kind != "log1p":
        return _of_counts(parts, scale, library, usual)
    some = _Steps.of(parts, scale)
    if library is not None:
        found = Amounts(scale, library, by_step=False, assumed=usual, summed=False)
        return _of_given_sum(found, some, library, key=reading.library_size_key, name=name)
    if scale.target_sum:
        own = _is_own_sum(some.sums, scale.target_sum)
        return Amounts(scale, None, by_step=False, assumed=usual, summed=own)
    return _of_unknown_sum(parts, scale, obs, some, usual)


def _of_counts(parts: Parts, scale: Scale, library: np.ndarray | None, usual: float) -> Amounts:
    """Take the matrix as it is; warn of integers that are hardly counts."""
    found = _integers(parts) if scale.kind != EXPECTED_COUNTS else ()
    own = library is None
    if library is not None:
        rows, cells = _some(parts)
        own = _is_own_sum(cell_sums(scale.linear(cells)), library[rows])
    return Amounts(scale, library, by_step=False, assumed=usual, summed=own, cautions=found)


def _of_given_sum(
    amounts: Amounts, some: "_Steps", library: np.ndarray, *, key: str, name: str
) -> Amounts:
    """Take all counts of each cell from a column of obs, if log1p shows one count of each.

    Parameters
    ----------
    amounts
        What is right if the column says nothing new.
    """
    scale = amounts.scale
    if not some.stepwise:  # only the sum is known
        return replace(amounts, library=None, cautions=(unused_column(key, str(scale)),))
    given = library[some.rows]
    totals = given * some.steps  # what they were normalised to, if it is right
    differ = not scale.target_sum or np.abs(totals / scale.target_sum - 1).max() > SAME
    if not differ:
        return amounts
    if totals.std() > SAME * totals.mean():
        _require_library(some, given, f"obs['{key}'] of {name}")
    return replace(amounts, scale=replace(scale, target_sum=None), by_step=True)


@dataclass(frozen=True)
class _Steps:
    """Of some cells of log1p: their numbers, one count of each, and the sum over the genes."""

    rows: np.ndarray
    steps: np.ndarray
    sums: np.ndarray
    stepwise: bool

    @classmethod
    def of(cls, parts: Parts, scale: Scale) -> "_Steps":
        rows, some = _some(parts)
        linear = scale.linear(some)
        cells = np.split(linear.data, linear.indptr[1:-1])
        return cls(rows, steps_of(linear), cell_sums(linear), is_stepwise(cells, scale.base))

    @property
    def counts(self) -> np.ndarray:
        """The counts of the genes that are there, (cells,)."""
        return self.sums / self.steps


def _require_library(some: _Steps, given: np.ndarray, name: str) -> None:
    """Refuse a column that is not what the cells were divided by, where this can be told.

    Parameters
    ----------
    given
        What the column holds of these cells.

    Raises
    ------
    ValueError
        If a cell has more counts, or was divided by another number.
    """
    total = find_sum(some.steps, some.sums)
    too_few = given < 0.99 * some.counts
    if not (total or too_few.any()):
        return
    cell = int(np.argmax(some.counts / given))
    true = total / some.steps[cell] if total else some.counts[cell]
    raise ValueError(
        f"{name} is {given[cell]:,.0f} in a cell that has {'' if total else 'at least '}"
        f"{true:,.0f} counts, as its values show. Give the column of obs that holds the library "
        "size that was divided by, or none."
    )


def _some(parts: Parts) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Return the numbers of some cells, and these cells, without those that express nothing."""
    rows, some = parts.some()
    filled = np.diff(some.indptr) > 0
    return rows[filled], some[filled]


def _is_own_sum(sums: np.ndarray, whole: np.ndarray | float) -> bool:
    """Whether what is said of whole cells is no more than the sum over the genes of the file."""
    return bool((np.abs(sums / whole - 1) < SAME).all())


def _integers(parts: Parts) -> tuple[Caution, ...]:
    """Warn of integers that are hardly counts."""
    _, some = _some(parts)
    highest, n_genes = some.data.max(initial=0), float(np.median(np.diff(some.indptr)))
    if highest == 1 and some.nnz > some.shape[0]:
        return (only_ones(n_genes),)
    if highest <= LARGEST_ROUNDED_LOG and n_genes >= MANY_GENES:
        return (integer_logs(highest, n_genes),)
    return ()


def _of_unknown_sum(
    parts: Parts, scale: Scale, obs: pd.DataFrame, some: _Steps, usual: float
) -> Amounts:
    """Find the sum, or a column of all counts, or do without, and warn."""
    all_genes = parts.shape[1] >= TRANSCRIPTOME_GENES
    more = bool(parts.kept is not None and not parts.kept.all())  # antibodies were summed, too
    total = find_sum(some.steps, some.sums)
    if total and more and all_genes:
        return Amounts(scale, None, by_step=True, assumed=usual, summed=True)
    if total:
        said = f"{total:,.6g}"
        log.info("%s was normalised to %s counts per cell, as its steps say", parts.name, said)
        return Amounts(
            replace(scale, target_sum=total), None, by_step=False, assumed=usual, summed=False
        )
    if column := _column_of_totals(obs, some):
        log.info("%s: all counts of each cell are taken from obs['%s']", parts.name, column)
        library = library_sizes(obs, column, parts.name)
        return Amounts(scale, library, by_step=True, assumed=usual, summed=False)
    how = OWN_SUM if all_genes else TAKEN_SUM.format(usual, parts.shape[1])
    caution = _caution(some, how)
    return Amounts(
        scale, None, by_step=all_genes, assumed=usual, summed=all_genes, cautions=(caution,)
    )


def _column_of_totals(obs: pd.DataFrame, some: _Steps) -> str:
    """Return a column of whole numbers that are never below the cells' counts; empty: none."""
    for key in TOTAL_COLUMNS:
        if key in obs:
            every = pd.to_numeric(obs[key], errors="coerce").to_numpy(dtype=np.float64)
            enough = (every[some.rows] >= 0.999 * some.counts).all()
            if enough and (every > 0).all() and (every == np.round(every)).all():
                return key
    return ""


def _caution(some: _Steps, how: str) -> Caution:
    """Say whether groups of cells have a sum of their own, and which."""
    steps, sums = some.steps, some.sums
    rounded = pd.Series([float(f"{total:.4g}") for total in sums]).value_counts(normalize=True)
    groups = rounded[rounded >= 0.1]
    if len(sums) >= FEWEST_CELLS and groups.sum() > 0.5:
        said = [f"{share:.0%} of the cells to {total:,.0f}" for total, share in groups.items()]
        rest = 1 - groups.sum()
        said += [f"{rest:.0%} to other sums"] if rest > 0.005 else []
        return mixed_sums(", ".join(said), how)
    usual = share_of_whole(steps, USUAL_SUM)
    if len(sums) >= FEWEST_CELLS and 0.2 < usual < 0.9:
        return mixed_sums(f"{usual:.0%} of the cells to {USUAL_SUM:,.0f}, others not", how)
    return unknown_sum(how, f"{sums.min():,.0f} to {sums.max():,.0f}")
