"""Sequencing depth beside that of the training cells: shallow cells are named less well.

Deep cells express more genes. Compared are the genes of `SeenCells`, of which each training cell's
are kept, as far as the file has them: so the depth of a panel of genes is seen as well, and that of
values whose counts are not known. The measurement is in docs/decisions/data.md.
"""

from dataclasses import dataclass

import numpy as np

from scbert.cells.cautions import Caution
from scbert.cells.query_cautions import shallow_cells, shallow_part
from scbert.tokens.tokenize import Sample
from scbert.training.saved_model import FinetunedModel, SavedModel
from scbert.training.seen_cells import SeenCells

FEWEST_GENES = 100  # below which the number of those that a cell expresses says little
LOWEST = 0.05  # of the training cells express fewer genes than this quantile
CELLS_AT_ONCE = 2**16


@dataclass(frozen=True)
class Depth:
    """Of `genes` genes, how many half of the cells express at most, here and in the training.

    `below` is the share of the cells that express fewer than `lowest`, than 95 % of the training
    cells express.
    """

    genes: int
    here: float
    training: float
    lowest: float
    below: float

    @property
    def share(self) -> float:
        """How deep the cells are, of the training cells' depth."""
        return self.here / self.training

    def cautions(self) -> list[Caution]:
        """Warn if the cells are far shallower than the training cells."""
        whole = shallow_cells(self.here, self.training, self.genes)
        return whole or shallow_part(self.below, self.lowest, self.genes)


class DepthSeen:
    """The numbers of genes that cells express, collected part by part.

    Parameters
    ----------
    measured
        Genes of the model's vocabulary that the file has.
    """

    def __init__(self, model: SavedModel, measured: np.ndarray) -> None:
        self.chosen = np.zeros(len(model.genes), dtype=bool)
        self.training, self.lowest = 0.0, 0.0
        self.here = [np.zeros(0, dtype=np.int64)]
        seen = model.seen if isinstance(model, FinetunedModel) else None
        if seen is None or not len(seen.expressed):
            return
        shared = np.isin(seen.genes, measured)
        if shared.sum() >= min(FEWEST_GENES, len(seen.genes)):
            self.chosen[seen.genes[shared]] = True
            lowest, median = np.quantile(_expressed_genes(seen, shared), [LOWEST, 0.5])
            self.training, self.lowest = float(median), float(lowest)

    def genes_of(self, sample: Sample) -> np.ndarray:
        """Return how many of the compared genes each cell expresses, int64 (cells,)."""
        among = np.concatenate([[0], np.cumsum(self.chosen[sample.levels.indices])])
        return np.diff(among[sample.levels.indptr]).astype(np.int64)

    def add(self, genes: np.ndarray) -> None:
        """Add the numbers of genes that cells express."""
        self.here.append(genes)

    def found(self) -> Depth | None:
        """Return what is known of all cells; None: they cannot be compared."""
        if not self.training:
            return None
        here = np.concatenate(self.here)
        below = float((here < self.lowest).mean())
        genes, median = int(self.chosen.sum()), float(np.median(here))
        return Depth(
            genes=genes, here=median, training=self.training, lowest=self.lowest, below=below
        )


def _expressed_genes(seen: SeenCells, shared: np.ndarray) -> np.ndarray:
    """Return how many of the shared genes each training cell expresses."""
    mask = np.packbits(shared)
    parts = range(0, len(seen.expressed), CELLS_AT_ONCE)
    return np.concatenate(
        [
            np.bitwise_count(seen.expressed[start : start + CELLS_AT_ONCE] & mask).sum(axis=1)
            for start in parts
        ]
    )
