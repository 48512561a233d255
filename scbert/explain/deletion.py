"""Is a ranking of genes faithful? Removing its top genes must hurt more than removing others."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scbert.config import Explain
from scbert.evidence.bootstrap import Interval, interval, resamples
from scbert.evidence.explained import DeletionResult
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
    A `DeletionResult` for each method, cell type ("all" first) and number of genes ("mean" first).
    What is held against the control is of the cells that have both. The verdict is control, or
    passes if both intervals are above 0, or fails.
    """
    control = drops[drops.method == CONTROL]
    assert len(control), "the control was not tested"
    rows = []
    for method, of_method in drops.groupby("method", sort=False):
        for name in [ALL, *of_method.cell_type.unique()]:
            cells, others = _of_type(of_method, name), _by_size(_of_type(control, name))
            for k, found in _by_size(cells).items():
                rows.append(
                    _judge(str(method), name, k, found, control=others[k], settings=settings)
                )
    return pd.DataFrame(rows)


def _judge(
    method: str,
    cell_type: str,
    k: str,
    found: pd.DataFrame,
    *,
    control: pd.DataFrame,
    settings: Explain,
) -> DeletionResult:
    """Compare the falls of some cells, see `_by_size`."""
    over_random = _mean_and_interval(found.top - found.random, settings)
    over_control = _mean_and_interval((found.top - control.top).dropna(), settings)
    summary = (cell_type, k) == (ALL, "mean")
    return DeletionResult(
        method,
        cell_type,
        k,
        len(found),
        top=found.top.mean(),
        random=found.random.mean(),
        difference=over_random.mean,
        low=over_random.low,
        high=over_random.high,
        over_control=over_control.mean,
        over_control_low=over_control.low,
        over_control_high=over_control.high,
        verdict=_verdict(method, over_random, over_control) if summary else "",
    )


def _of_type(drops: pd.DataFrame, name: str) -> pd.DataFrame:
    return drops if name == ALL else drops[drops.cell_type == name]


def _by_size(drops: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return top and random of each cell, indexed by cell: their means over k, and of each k."""
    by_cell = drops.set_index("cell")[["top", "random", "k"]]
    means = by_cell[["top", "random"]].groupby(level=0, sort=False).mean()
    return {"mean": means, **{str(k): found for k, found in by_cell.groupby("k")}}


def _mean_and_interval(values: pd.Series, settings: Explain) -> Interval:
    found = values.to_numpy()
    drawn = [found[cells_BN].mean(axis=1) for cells_BN in resamples(len(found), settings)]
    return interval(found.mean(), np.concatenate(drawn), settings)


def _verdict(method: str, over_random: Interval, over_control: Interval) -> str:
    if method in CONTROLS:
        return "control"
    return "passes" if over_random.low > 0 and over_control.low > 0 else "fails"


def verdicts(judged: pd.DataFrame) -> dict[str, DeletionResult]:
    """Return, for each method, the result of all cells and the mean over numbers of genes."""
    rows = judged[judged.verdict != ""].to_dict("records")
    found = (DeletionResult(**{str(key): value for key, value in row.items()}) for row in rows)
    return {one.method: one for one in found}


def sentence(found: DeletionResult, title: str, level: float) -> str:
    """Say whether a method passes, and why not."""
    what = (
        f"Removing its top genes lowers the probability of the label by {found.top:.3f}, random "
        f"expressed genes of the same bins by {found.random:.3f}: difference "
        f"{found.difference:+.3f}, {level:.0%} interval {found.low:+.3f} to {found.high:+.3f}, "
        f"{found.cells} cells."
    )
    if found.method == CONTROL:
        return f"{title}. {what}"
    what += (
        f" Less the control without a model, cell by cell: {found.over_control:+.3f} "
        f"({found.over_control_low:+.3f} to {found.over_control_high:+.3f})."
    )
    if found.verdict == "control":
        return f"{title}. {what}"
    if found.verdict == "passes":
        return f"{title}: passes. {what}"
    reason = (
        "random genes do as much or more"
        if found.low <= 0
        else "a list made without the model does as much or more"
    )
    return f"{title}: FAILS the deletion test, for {reason}. {what}"
