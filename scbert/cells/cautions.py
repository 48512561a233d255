"""Warnings: what makes a result less sure than it looks, with its number and what to do.

Each command and function says them in the log, and gives them back with its result. Those here are
of the amounts in a matrix; others have modules of their own.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_LISTED = 5  # names in a message
AND_MORE = " and {} more"
GIVE_COUNTS = (
    "Give raw counts (--matrix), or the column of obs that holds all counts of each cell "
    "(--library-size-key)."
)


@dataclass(frozen=True)
class Caution:
    """A warning.

    Parameters
    ----------
    code
        By which programs know it, such as few_genes.
    found
        What was found, with its number, and what it means.
    advice
        What to do.
    """

    code: str
    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.found} {self.advice}"


def some(names: Sequence[str], of_the_rest: str = ", ...") -> str:
    """List the first five names, and say that there are more; {} is how many."""
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (of_the_rest.format(more) if more > 0 else "")


def quoted_groups(groups: Sequence[Sequence[str]]) -> str:
    """List the first five groups of names that differ in hardly anything."""
    return "; ".join(" and ".join(f"'{name}'" for name in group) for group in groups[:MOST_LISTED])


def say(cautions: Iterable[Caution], name: str, log: logging.Logger) -> None:
    """Log the warnings about the cells called `name`."""
    for caution in cautions:
        log.warning("%s: %s", name, caution)


def by_code(cautions: Iterable[Caution]) -> dict[str, str]:
    """Return the warnings as uns and JSON files hold them: text by code."""
    return {caution.code: str(caution) for caution in cautions}


def unknown_sum(how: str, spread: str) -> Caution:
    """Of log1p: to how many counts per cell it was normalised cannot be told."""
    return Caution(
        "unknown_sum",
        f"the values were logged, but their cells do not add up to one number ({spread}): to how "
        f"many counts each cell was normalised is not known. {how}",
        GIVE_COUNTS,
    )


def mixed_sums(shares: str, how: str) -> Caution:
    """Of log1p: groups of cells were normalised to different sums."""
    return Caution(
        "mixed_sums",
        f"the cells were normalised to different sums: {shares}. {how}",
        f"Normalise all cells in the same way. {GIVE_COUNTS}",
    )


def unused_column(key: str, scale: str) -> Caution:
    """All counts of each cell are given, but the matrix says them by itself."""
    return Caution(
        "unused_column",
        f"the matrix holds {scale}, so the counts of each cell are known: obs['{key}'] is not "
        "used.",
        "Leave it out, or give the matrix that holds counts.",
    )


def integer_logs(highest: float, n_genes: float) -> Caution:
    """Integers that end so low that they may be rounded logarithms."""
    return Caution(
        "integer_logs",
        f"the values are integers and taken for counts, but none is above {highest:.0f}, though "
        f"cells express {n_genes:,.0f} genes (median): logarithms that were rounded look so.",
        "Give the matrix that holds raw counts.",
    )


def only_ones(n_genes: float) -> Caution:
    """Which genes were detected, but not with how many counts."""
    return Caution(
        "only_ones",
        f"all values are 1, in {n_genes:,.0f} genes of a cell (median): they say which genes were "
        "detected, not how many counts they have, so labels are less accurate and more cells are "
        "called unknown.",
        "Give the matrix that holds raw counts.",
    )
