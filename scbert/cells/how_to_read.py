"""Settings for reading the cells of a file, and the piece of it that one of several jobs reads."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import pandas as pd

from scbert.config.inputs import HowCellsAreRead


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

    @classmethod
    def of(cls, said: HowCellsAreRead) -> Self:
        """Return what a line of the table of queries says."""
        return cls(said.matrix, said.scale, said.library_size_key)

    @property
    def columns(self) -> list[str]:
        """The columns of obs that are needed."""
        return [self.library_size_key] if self.library_size_key else []


AUTOMATIC = HowToRead()


@dataclass(frozen=True)
class Piece:
    """The piece with this number, from 1, of so many that are as equal as can be.

    It is made of whole parts, as a matrix is read in: a cell is computed beside the same others,
    hence with the same bits, however many jobs there are.
    """

    number: int
    of: int

    def of_parts(self, n_parts: int) -> range:
        """Return the numbers, from 0, of the parts of this piece; there may be none."""
        return range((self.number - 1) * n_parts // self.of, self.number * n_parts // self.of)


WHOLE = Piece(1, 1)


def read_piece(text: str) -> Piece:
    """Return the piece that Snakemake calls 2-of-8.

    Raises
    ------
    ValueError
        If it is called otherwise.
    """
    found = re.fullmatch(r"(\d+)-of-(\d+)", text)
    piece = Piece(int(found[1]), int(found[2])) if found else None
    if piece is None or not 1 <= piece.number <= piece.of:
        raise ValueError(f"the piece is called '{text}', but a name such as 2-of-8 is needed.")
    return piece
