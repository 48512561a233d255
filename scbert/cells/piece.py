"""A piece of the cells of a file, where several jobs read it together."""

import re
from dataclasses import dataclass


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
