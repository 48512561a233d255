"""All counts of each cell, from a column of obs, beside what the training cells lead to expect.

A file may lack genes, so that its cells have more counts than it shows. How many more is known of
the training cells: the components keep the mean counts of each gene, of 10,000 of the whole cell.
"""

import numpy as np

from scbert.cells.amounts import Amounts
from scbert.cells.cautions import Caution
from scbert.cells.matrix import Parts
from scbert.cells.quality import cell_sums
from scbert.cells.query_cautions import large_library
from scbert.config import Normalization
from scbert.training.saved_model import FinetunedModel, SavedModel


def cautions_of_library(
    parts: Parts, amounts: Amounts, key: str, measured: np.ndarray, model: SavedModel
) -> list[Caution]:
    """Warn of a column that gives cells far more counts than missing genes can explain.

    Parameters
    ----------
    parts, amounts
        The matrix of the cells, and how their counts are come by.
    key
        The name of the column; empty: none was given.
    measured
        Which genes of the model's vocabulary the file has, bool (V,).
    """
    share = _share_of_library(model, measured)
    if not (key and amounts.of_column and share):
        return []
    rows, some = parts.some()
    counts, library = amounts.of(some, rows)
    sums = cell_sums(counts)
    filled = sums > 0
    if not filled.any():
        return []
    return large_library(key, float(np.median(library[filled] / sums[filled])), 1 / share)


def _share_of_library(model: SavedModel, measured: np.ndarray) -> float:
    """Return the share of all counts of a training cell that these genes hold; 0: not known."""
    if not isinstance(model, FinetunedModel) or model.components is None:
        return 0.0
    normalization = Normalization.model_validate(model.config["normalization"])
    if normalization.denominator != "library":  # which the column does not change
        return 0.0
    counts = model.components.counts_V[measured].sum(dtype=np.float64)
    return float(counts) / normalization.target_sum
