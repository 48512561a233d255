"""Is a ranking of genes faithful? Removing its top genes must hurt more than removing others.

For each cell, the k best-ranked genes of its type that it expresses are removed, and as many other
genes that it expresses, drawn at random from the same bins. What is compared, cell by cell, is how
far the probability of the cell's label falls. The ranking that a cell is tested with comes from
other cells, so that no method profits from having seen the cell.
Source of the idea: Samek et al. 2017, Evaluating the visualization of what a deep neural network
has learned (pixel flipping); DeYoung et al. 2020, ERASER (comprehensiveness).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scbert.config import Explain


def halves(code: np.ndarray) -> np.ndarray:
    """Divide the cells of each type in two: 0 and 1 in turn, shape (cells,)."""
    return pd.Series(code).groupby(code).cumcount().to_numpy() % 2


def genes_to_remove(genes: np.ndarray, rank_V: np.ndarray, k: int) -> np.ndarray | None:
    """Return the k best-ranked of a cell's genes; None if it is too small for the test.

    It must express k genes that are ranked, and as many others to draw from.
    """
    ranked = genes[rank_V[genes] > 0]
    if len(ranked) < k or len(genes) < 2 * k:
        return None
    return ranked[np.argsort(rank_V[ranked], kind="stable")][:k]


def matched_genes(
    genes: np.ndarray, bins: np.ndarray, removed: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw as many other genes of a cell, each of the bin of a removed one or else the next bin.

    Parameters
    ----------
    genes, bins
        The genes that the cell expresses, and their bins.
    removed
        Some of the genes, at most half of them.
    """
    bin_of = dict(zip(genes.tolist(), bins.tolist(), strict=True))
    free = np.ones(len(genes), dtype=bool)
    free[np.isin(genes, removed)] = False
    chance = rng.random(len(genes))
    drawn = []
    for gene in removed.tolist():
        distance = np.abs(bins.astype(np.int64) - bin_of[gene]) + chance
        best = int(np.argmin(np.where(free, distance, np.inf)))
        free[best] = False
        drawn.append(genes[best])
    return np.array(drawn, dtype=genes.dtype)


def plan_removals(
    cells: Sequence[tuple[np.ndarray, np.ndarray]],
    code: np.ndarray,
    half: np.ndarray,
    ranks: Mapping[tuple[str, int], np.ndarray],
    settings: Explain,
) -> pd.DataFrame:
    """Say which genes to remove from which cell.

    Parameters
    ----------
    cells
        Genes and bins that each cell expresses.
    code, half
        Type and half of each cell, shape (cells,).
    ranks
        For each method and half, the ranks (types, vocabulary) that the other half's cells give.

    Returns
    -------
    A row for each removal: method, cell, k, draw (0: the top genes; from 1: others) and genes.
    """
    rng = np.random.default_rng(settings.seed)
    rows: list[tuple[str, int, int, int, np.ndarray]] = []
    for (method, tested), rank_CV in ranks.items():
        for cell in np.flatnonzero(half == tested).tolist():
            genes, bins = cells[cell]
            for k in settings.deletions:
                top = genes_to_remove(genes, rank_CV[code[cell]], k)
                if top is not None:
                    rows.append((method, cell, k, 0, top))
                    rows += [
                        (method, cell, k, draw, matched_genes(genes, bins, top, rng))
                        for draw in range(1, settings.random_draws + 1)
                    ]
    return pd.DataFrame(rows, columns=["method", "cell", "k", "draw", "genes"])


def falls(plan: pd.DataFrame, fall: np.ndarray, types: Sequence[str]) -> pd.DataFrame:
    """Put the fall of each removal into the table that `judge_deletions` takes.

    Parameters
    ----------
    fall
        Shape (removals,): how far the probability of the cell's label fell.
    types
        The type of each cell.
    """
    by = ["method", "cell", "k"]
    found = plan[by].assign(fall=fall, top=plan.draw == 0)
    top = found[found.top].set_index(by).fall.rename("top")
    random = found[~found.top].groupby(by, sort=False).fall.mean().rename("random")
    table = pd.concat([top, random], axis=1).reset_index()
    return table.assign(cell_type=np.asarray(types, dtype=object)[table.cell])
