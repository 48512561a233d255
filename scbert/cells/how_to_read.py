"""How the cells of a file or an AnnData are to be read."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd


def named_genes(genes: pd.DataFrame) -> int:
    """Count the genes of a table, by its index, that have more than a number for a name."""
    return sum(not str(name).isdecimal() for name in genes.index)


@dataclass(frozen=True)
class Wanted:
    """Which genes a matrix is to have: `count` says how many a table of genes has of them."""

    count: Callable[[pd.DataFrame], int]
    called: str


ALL_GENES = Wanted(named_genes, "genes")


@dataclass(frozen=True)
class HowToRead:
    """Which matrix holds the cells, what it holds, and which column the counts of whole cells.

    Parameters
    ----------
    matrix
        X, raw.X, layers/NAME, or auto: of layers/counts, raw.X and X the one that can be turned
        into counts and has most of the wanted genes; of equals the one with raw counts.
    scale
        What it holds: counts, log1p, expected_counts (estimates that need not be integers), or
        auto: the first two are recognised automatically.
    library_size_key
        Column of obs with all counts of each cell, if the matrix holds some of the genes only;
        empty: none.
    wanted
        The genes that the matrix is to have, those of a model; else as many as there are.
    """

    matrix: str = "auto"
    scale: str = "auto"
    library_size_key: str = ""
    wanted: Wanted = ALL_GENES

    @property
    def columns(self) -> list[str]:
        """The columns of obs that are needed."""
        return [self.library_size_key] if self.library_size_key else []


AUTOMATIC = HowToRead()
