"""How the cells of a file or an AnnData are to be read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HowToRead:
    """Which matrix holds the cells, what it holds, and which column the counts of whole cells.

    Parameters
    ----------
    matrix
        X, raw.X, layers/NAME, or auto: the first that exists of layers/counts, raw.X and X.
    scale
        What it holds: counts, log1p, expected_counts (estimates that need not be integers), or
        auto: the first two are recognised automatically.
    library_size_key
        Column of obs with all counts of each cell, if the matrix holds counts of some genes only;
        empty: none.
    """

    matrix: str = "auto"
    scale: str = "auto"
    library_size_key: str = ""

    @property
    def columns(self) -> list[str]:
        """The columns of obs that are needed."""
        return [self.library_size_key] if self.library_size_key else []


AUTOMATIC = HowToRead()
