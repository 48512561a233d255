"""The cells that a model of cell types learns from: rows of the token store, with their types."""

import hashlib
from pathlib import Path

import numpy as np

from scbert.cells.tables import read_table

NO_TYPE = -1


class LabelledRows:
    """The cell types of the training and validation cells, by row of the token store.

    `types` are those of the training cells, sorted; a cell's type is its number there.

    Parameters
    ----------
    split
        Table of all cells of the store, in any order: cell, cell_type, part and perhaps batch.
    cells
        The names of the store's cells, in its order.

    Raises
    ------
    ValueError
        If the table holds other cells, or no cell to learn from or to choose the epoch by.
    """

    def __init__(self, split: Path, cells: list[str]) -> None:
        table = read_table(split, "cell", "cell_type", "part").set_index("cell")
        if set(table.index) != set(cells):
            raise ValueError(
                f"{split} and the tokens hold different cells. Split the dataset again."
            )
        table = table.loc[cells]
        self._part = table.part.to_numpy()
        known = "batch" in table and (table.batch != "").any()
        self.batch = table.batch.to_numpy(dtype=str) if known else None
        self.types = sorted(table.cell_type[self._part == "train"].unique())
        number = {name: index for index, name in enumerate(self.types)}
        hidden = table.cell_type.where(table.part != "test", "")  # test labels end here
        self.label = hidden.map(number).fillna(NO_TYPE).to_numpy(dtype=np.int64)
        for part in ("train", "validation"):
            if not len(self.rows(part)):
                raise ValueError(
                    f"{split} has no cell of part '{part}' with a type that training cells have, "
                    "but the model needs some to train on and some to choose the epoch by. "
                    "Split the dataset again."
                )

    def rows(self, part: str) -> np.ndarray:
        """Return the rows of a part that have a type seen in training, ascending."""
        return np.flatnonzero((self._part == part) & (self.label != NO_TYPE))

    def of(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a part, see `rows`, and the number of the type of each."""
        rows = self.rows(part)
        return rows, self.label[rows]

    def reference(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of training and validation cells, ascending, and their types' numbers."""
        rows = np.sort(np.concatenate([self.rows("train"), self.rows("validation")]))
        return rows, self.label[rows]

    def count(self, part: str) -> dict[str, int]:
        """Return the number of cells of each type in a part."""
        found = np.bincount(self.of(part)[1], minlength=len(self.types))
        return dict(zip(self.types, found.tolist(), strict=True))

    def sha256(self) -> str:
        """Return the SHA-256 of which cells are in which part and, but for test cells, of what."""
        seen = repr((self.types, self._part.tolist(), self.label.tolist()))
        return hashlib.sha256(seen.encode()).hexdigest()
