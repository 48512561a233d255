"""Scale of a matrix: counts, log-normalised expression, or something that cannot be used.

Counts are integers. Estimates of counts (RSEM, Salmon, corrected molecules, ambient RNA removed)
are not, and nothing in them says that they are not something else: they are taken as
`expected_counts` where the user says so. After log1p of counts per S, the values of a cell, taken
back by b^x - 1, are integer multiples of the smallest one, for the right base b only: one count is
one step. Over all genes they also add up to S in each cell. Where this does not single out one
base, the matrix is refused: a wrong base would go unnoticed until the scores are bad.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy import sparse

from scbert.cells.matrix import Parts, parts_in_memory

BASES = {"e": float(np.e), "2": 2.0, "10": 10.0}
NOT_LOGGED = 0.0  # stands for a base where the values themselves are looked at
LARGEST_LOG = 25.0  # no log1p of counts per million comes near
STEPS_TO_LOOK_AT = 20  # larger multiples cannot be told from their neighbours in float32
CLOSE, SHARE_OF_INTEGERS = 0.02, 0.5  # logged values are so near to an integer in 4 of 100
WHOLE = 8e-7  # of a count: float32 loses so much when up to 10^5 are logged and taken back
EXPECTED_COUNTS: Final = "expected_counts"
SAID = ("auto", "counts", EXPECTED_COUNTS, "log1p")


@dataclass(frozen=True)
class Scale:
    """What a matrix holds.

    `target_sum` is the sum of b^x - 1 over the genes of a cell, None where cells differ, as they do
    in a subset of the genes.
    """

    kind: Literal["counts", "expected_counts", "log1p"]
    base: float
    target_sum: float | None

    def __str__(self) -> str:
        if self.kind == "counts":
            return "raw counts"
        if self.kind == EXPECTED_COUNTS:
            return "expected counts"
        name = next(name for name, base in BASES.items() if base == self.base)
        total = f"{self.target_sum:,.0f}" if self.target_sum else "an unknown number of"
        return f"log1p to base {name} of {total} counts per cell"

    def linear(self, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return counts, whole ones rounded; of log1p b^x - 1, counts per `target_sum`; float64."""
        linear = matrix.astype(np.float64)
        if self.kind == "log1p":
            linear.data = self.base**linear.data - 1
        elif self.kind == "counts":
            linear.data = np.round(linear.data)
            linear.eliminate_zeros()
        return linear


def whole_numbers(values: np.ndarray) -> bool:
    """Whether all values are integers, but for what float arithmetic leaves of them.

    Counts that were logged and taken back are a little off, in float32 by some 1e-7 of their value.
    """
    if values.dtype.kind in "iub":
        return True
    nearest = np.round(values)
    return bool((np.abs(values - nearest) <= WHOLE * np.maximum(1, nearest)).all())


def check_values(matrix: sparse.csr_matrix, name: str, others: tuple[str, ...] = ()) -> None:
    """Refuse what can be neither counts nor log-normalised expression.

    Parameters
    ----------
    others
        The other matrices of its file.

    Raises
    ------
    ValueError
        For NaN, infinity or negative values, naming how many and the lowest.
    """
    values = matrix.data
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} holds {np.count_nonzero(~np.isfinite(values))} values that are NaN or "
            "infinite, but counts are finite numbers. Remove those cells or genes. "
            + another_matrix(others)
        )
    if values.size and values.min() < 0:
        raise ValueError(
            f"{name} holds negative values (lowest {values.min():.3g}), as scaled or "
            "batch-corrected data do, but scBERT needs counts or log-normalised expression. "
            + another_matrix(others)
        )


def another_matrix(others: tuple[str, ...]) -> str:
    """Say where else raw counts may be, of what the file has."""
    if not others:
        return "The file has no other matrix: give one with raw counts."
    return f"If {' or '.join(others)} of the file holds raw counts, name it (--matrix)."


def guess_scale(matrix: sparse.csr_matrix, name: str, said: str = "auto") -> Scale:
    """Find out what a matrix in memory holds, see `scale_of_parts`."""
    return scale_of_parts(parts_in_memory(matrix, name), said)


def scale_of_parts(parts: Parts, said: str) -> Scale:
    """Find out what a matrix holds: integers from all of it, a base from up to 200 of its cells.

    Parameters
    ----------
    parts
        Shape (cells, genes). Each part is read once, and the 200 cells again.
    said
        What the user says of it: auto, counts, expected_counts or log1p. Integers are counts also
        where expected counts were announced.

    Raises
    ------
    ValueError
        If the matrix holds NaN or negative values, or neither counts nor log-normalised expression,
        or log-normalised expression whose base cannot be told; or something else than was said.
    """
    if said not in SAID:
        raise ValueError(f"the scale is said to be '{said}', but it is one of {', '.join(SAID)}.")
    scale = _scale_of_parts(parts, said)
    if said not in ("auto", scale.kind) and (said, scale.kind) != (EXPECTED_COUNTS, "counts"):
        raise ValueError(
            f"{parts.name} is said to hold {said}, but it holds {scale}. Correct 'scale' "
            f"(to {scale.kind}). {another_matrix(parts.others)}"
        )
    return scale


def _scale_of_parts(parts: Parts, said: str) -> Scale:
    integers, highest, filled = True, 0.0, [np.zeros(0, dtype=np.int64)]
    for start, part in parts.each():
        check_values(part, parts.name, parts.others)
        integers = integers and whole_numbers(part.data)
        highest = max(highest, float(part.data.max(initial=0)))
        filled.append(start + np.flatnonzero(np.diff(part.indptr)))
    cells = _some_cells(parts, np.concatenate(filled))
    if not cells:
        raise ValueError(f"{parts.name} holds only zeros. {another_matrix(parts.others)}")
    if integers:
        return Scale("counts", np.e, None)
    if said == EXPECTED_COUNTS:
        _check_expected_counts(cells, highest, parts.name)
        return Scale(EXPECTED_COUNTS, np.e, None)
    return _scale_of_log(cells, highest, parts)


def _check_expected_counts(cells: list[np.ndarray], highest: float, name: str) -> None:
    """Refuse what was certainly normalised or logged: most estimates of low counts are integers."""
    values = np.concatenate(cells)
    near = float(np.mean(np.abs(values - np.round(values)) < CLOSE))
    if highest <= LARGEST_LOG and near < SHARE_OF_INTEGERS:
        raise ValueError(
            f"{name} is said to hold expected_counts, but its values end at {highest:.4g} and only "
            f"{near:.0%} are near an integer, as after a logarithm. Give counts that were not "
            "logged, or scale auto."
        )
    if _common_sums({NOT_LOGGED: cells}):
        raise ValueError(
            f"{name} is said to hold expected_counts, but they add up to the same number, "
            f"{cells[0].sum():,.6g}, in each cell: they were normalised. Give counts from before, "
            "or log1p of counts per 10,000."
        )


def _scale_of_log(cells: list[np.ndarray], highest: float, parts: Parts) -> Scale:
    linear = _taken_back(cells) if highest <= LARGEST_LOG else {NOT_LOGGED: cells}
    steps = [base for base, values in linear.items() if is_stepwise(values, base)]
    sums = _common_sums(linear)
    both = [base for base in steps if base in sums]
    fitting = both or (steps if not sums else [] if steps else list(sums))
    if len(fitting) != 1 or NOT_LOGGED in fitting:
        raise ValueError(_why_refused(highest, parts, fitting or [*steps, *sums]))
    if fitting[0] not in sums and _is_one_count_one(linear[fitting[0]]):
        raise ValueError(
            f"{parts.name} holds the logarithm of raw counts that were not divided by the counts "
            "of their cell, but scBERT needs counts, or log1p of counts per 10,000. "
            f"Undo the logarithm ({_inverse(fitting[0])}) and pass the counts. "
            f"{another_matrix(parts.others)}"
        )
    return Scale("log1p", fitting[0], sums.get(fitting[0]))


def _inverse(base: float) -> str:
    return "np.expm1" if base == BASES["e"] else f"{base:g} ** x - 1"


def _some_cells(parts: Parts, filled: np.ndarray) -> list[np.ndarray]:
    """Return the expressed values of up to 200 of the cells that express a gene, evenly spread."""
    if not filled.size:
        return []
    _, some = parts.some(filled)
    return np.split(some.data.astype(np.float64), some.indptr[1:-1])


def _taken_back(cells: list[np.ndarray]) -> dict[float, list[np.ndarray]]:
    """Return the cells for each base that may have been used, the values themselves among them."""
    logged = {base: [base**values - 1 for values in cells] for base in BASES.values()}
    return {NOT_LOGGED: cells, **logged}


def is_stepwise(cells: list[np.ndarray], base: float) -> bool:
    """Whether nearly all values are integer multiples of the smallest value of their cell.

    For the values themselves half of them suffice: counts with some fractions among them would
    else pass for logarithms to base 2, for 2^x - 1 of an integer is an integer.
    """
    share = 0.5 if base == NOT_LOGGED else 0.95
    near = []
    for values in cells:
        steps = values / values.min()
        steps = steps[(steps > 1.2) & (steps < STEPS_TO_LOOK_AT)]
        near.append(np.abs(steps - np.round(steps)) < 0.02)
    pooled = np.concatenate(near)
    every_cell = all(cell.mean() > share / 2 for cell in near if cell.size >= 5)
    return bool(pooled.size >= 10 and pooled.mean() > share and every_cell)


def _common_sums(linear: dict[float, list[np.ndarray]]) -> dict[float, float]:
    """Return the sum of a cell for the bases for which it is the same in all cells.

    Where cells are much alike, wrong bases come near it too: only those as good as the best count.
    """
    sums = {base: np.array([values.sum() for values in cells]) for base, cells in linear.items()}
    spread = {base: of_cells.std() / of_cells.mean() for base, of_cells in sums.items()}
    limit = min(1e-3, 10 * max(1e-6, min(spread.values())))  # 1e-6: what float32 loses
    return {
        base: float(f"{of_cells.mean():.6g}")
        for base, of_cells in sums.items()
        if len(of_cells) > 1 and spread[base] <= limit
    }


def _is_one_count_one(cells: list[np.ndarray]) -> bool:
    """Whether the smallest value is 1 in nearly all cells: nothing was divided by a cell's sum."""
    smallest = np.array([values.min() for values in cells])
    return bool(np.mean(np.abs(smallest - 1) < 1e-3) > 0.9)


def _why_refused(highest: float, parts: Parts, fitting: list[float]) -> str:
    names = {NOT_LOGGED: "not logged", **{base: f"base {key}" for key, base in BASES.items()}}
    if fitting == [NOT_LOGGED]:
        why = (
            "not integers, yet multiples of one value in each cell, as counts are that were "
            "normalised but not logged"
        )
    elif fitting:
        why = (
            "not integers, and whether and to which base they were logged cannot be told "
            f"({', '.join(names[base] for base in sorted(set(fitting)))}?)"
        )
    else:
        why = (
            "neither counts (not all are integers) nor log1p of counts per cell (taken back, they "
            "are not multiples of one count in each cell, nor do they add up to the same number)"
        )
    return (
        f"{parts.name} holds values up to {highest:.4g} that are {why}. scBERT needs to know "
        "what one count is. Give raw counts, or log1p of counts per 10,000; if these are estimates "
        "of counts (RSEM, Salmon, corrected molecules, ambient RNA removed), say that the scale is "
        f"expected_counts. {another_matrix(parts.others)}"
    )
