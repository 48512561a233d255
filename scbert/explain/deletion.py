"""Is a ranking of genes faithful? Removing its top genes must hurt more than removing others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scbert.config import Explain
from scbert.evidence.bootstrap import interval, resamples
from scbert.explain.rankings import CONTROLS

ALL = "all"
CONTROL = "expression"  # the list without a model


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


def judge_deletions(drops: pd.DataFrame, settings: Explain) -> pd.DataFrame:
    """Compare the falls of probability, with intervals over cells.

    Parameters
    ----------
    drops
        A row for each method, cell and k: method, cell, cell_type, k, top and random: how far the
        probability fell when the top genes were removed, and, a mean over draws, random ones. One
        method is `CONTROL`.

    Returns
    -------
    A row for each method, cell type ("all" first) and number of genes ("mean" first: the mean over
    k of each cell): cells, top, random, difference (mean over cells), low, high; over_control,
    over_control_low and over_control_high: the same of top less the control's top, of the cells
    that have both; and, in the row of all cells and the mean, verdict: control, or passes if both
    intervals are above 0, or fails.
    """
    control = drops[drops.method == CONTROL]
    assert len(control), "the control was not tested"
    rows = []
    for method, of_method in drops.groupby("method", sort=False):
        for name in [ALL, *of_method.cell_type.unique()]:
            cells, others = _of_type(of_method, name), _by_size(_of_type(control, name))
            for k, found in _by_size(cells).items():
                row: dict[str, Any] = {"method": method, "cell_type": name, "genes": k}
                row |= {"cells": len(found), "top": found.top.mean(), "random": found.random.mean()}
                row |= _mean_and_interval("difference", "", found.top - found.random, settings)
                above = (found.top - others[k].top).dropna()
                row |= _mean_and_interval("over_control", "over_control_", above, settings)
                summary = (name, k) == (ALL, "mean")
                row["verdict"] = _verdict(row) if summary else ""
                rows.append(row)
    return pd.DataFrame(rows)


def _of_type(drops: pd.DataFrame, name: str) -> pd.DataFrame:
    return drops if name == ALL else drops[drops.cell_type == name]


def _by_size(drops: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return top and random of each cell, indexed by cell: their means over k, and of each k."""
    by_cell = drops.set_index("cell")[["top", "random", "k"]]
    means = by_cell[["top", "random"]].groupby(level=0, sort=False).mean()
    return {"mean": means, **{str(k): found for k, found in by_cell.groupby("k")}}


def _mean_and_interval(
    name: str, prefix: str, values: pd.Series, settings: Explain
) -> dict[str, float]:
    found = values.to_numpy()
    drawn = [found[cells_BN].mean(axis=1) for cells_BN in resamples(len(found), settings)]
    ends = interval(found.mean(), np.concatenate(drawn), settings)
    return {name: ends.mean, f"{prefix}low": ends.low, f"{prefix}high": ends.high}


def _verdict(row: dict[str, Any]) -> str:
    if row["method"] in CONTROLS:
        return "control"
    return "passes" if row["low"] > 0 and row["over_control_low"] > 0 else "fails"


def verdicts(judged: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return, for each method, the row of all cells and the mean over numbers of genes."""
    rows = judged[judged.verdict != ""].to_dict("records")
    return {row["method"]: {str(key): value for key, value in row.items()} for row in rows}


def sentence(row: dict[str, Any], title: str, level: float) -> str:
    """Say whether a method passes, and why not."""
    what = (
        f"Removing its top genes lowers the probability of the label by {row['top']:.3f}, random "
        f"expressed genes of the same bins by {row['random']:.3f}: difference "
        f"{row['difference']:+.3f}, {level:.0%} interval {row['low']:+.3f} to {row['high']:+.3f}, "
        f"{row['cells']} cells."
    )
    if row["method"] == CONTROL:
        return f"{title}. {what}"
    what += (
        f" Less the control without a model, cell by cell: {row['over_control']:+.3f} "
        f"({row['over_control_low']:+.3f} to {row['over_control_high']:+.3f})."
    )
    if row["verdict"] == "control":
        return f"{title}. {what}"
    if row["verdict"] == "passes":
        return f"{title}: passes. {what}"
    reason = (
        "random genes do as much or more"
        if row["low"] <= 0
        else "a list made without the model does as much or more"
    )
    return f"{title}: FAILS the deletion test, for {reason}. {what}"
