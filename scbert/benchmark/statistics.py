"""Uncertainty of the comparisons: scaled scores, paired differences, ranks and chances.

Ranks follow Demšar 2006, JMLR 7, with Holm's correction; chances Benavoli et al. 2014, ICML.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scikit_posthocs
from scipy import stats

from scbert.benchmark.score import MAIN
from scbert.benchmark.summary import NO_INTERVAL, OVER_CELLS, OVER_SEEDS, t_interval

FEWEST_DATASETS = 6  # below, a rank says little
FEWEST_METHODS = 3  # that Friedman's test compares
TOO_FEW = "Too few datasets to rank"
EQUAL = 0.01  # scores closer than this count as equal
RANDOM = "random"  # the control that sets the zero
OVER_DATASETS, OVER_BOTH = "datasets", "seeds or cells"
PLACES = ("dataset", "level")  # of a protocol, in which methods are compared


def control_scaled(means: pd.DataFrame) -> pd.DataFrame:
    """Add the column `scaled`: 0 is what random types reach, 1 is perfect.

    Where the control was not run or has no score there is none: it is NaN.
    """
    keys = ["dataset", "protocol", "level", "metric"]
    of_random = means[means["method"] == RANDOM].set_index(keys)["value"].rename("floor")
    table = means.join(of_random, on=keys)
    table["scaled"] = (table["value"] - table["floor"]) / (1 - table["floor"])
    return table.drop(columns="floor")


def is_part(method: str) -> bool:
    """Whether a name is that of a part of a method, METHOD.PART."""
    return "." in method


@dataclass(frozen=True)
class ScoreDifference:
    """The score of one method minus that of another, and over what its interval is taken.

    Of `asked` datasets and levels `compared` have a score of both.
    """

    method: str
    value: float
    low: float
    high: float
    interval: str
    datasets: int
    compared: int
    asked: int

    @property
    def side(self) -> str:
        """ahead, behind or unclear; unclear also where there is no interval."""
        if self.low > 0:
            return "ahead"
        return "behind" if self.high < 0 else "unclear"


def paired_differences(
    means: pd.DataFrame, protocol: str, level: float, asked: int
) -> list[ScoreDifference]:
    """Average the differences of a protocol over levels, then datasets; the smallest first.

    Parameters
    ----------
    means
        `means_over_seeds` of the table of differences.
    asked
        How many datasets and levels the protocol has, also those in which the first method failed.
    level
        Of the interval: of t over datasets where there are two at least. Of one dataset its ends
        are the means of those of its levels, which is wide enough.
    """
    chosen = means[(means["protocol"] == protocol) & (means["metric"] == MAIN)]
    found = [
        _joined(str(name), group, level, asked)
        for name, group in chosen.groupby("method", sort=False)
    ]
    return sorted(found, key=lambda one: one.value)


def _joined(method: str, lines: pd.DataFrame, level: float, asked: int) -> ScoreDifference:
    by_dataset = lines.groupby("dataset", sort=False)["value"].mean()
    mean, low, high = t_interval(by_dataset.tolist(), level)
    interval = OVER_DATASETS if len(by_dataset) > 1 else NO_INTERVAL
    if len(by_dataset) == 1:
        low, high = lines["low"].mean(skipna=False), lines["high"].mean(skipna=False)
        kinds = set(lines["interval"])
        interval = NO_INTERVAL if np.isnan(low) else kinds.pop() if len(kinds) == 1 else OVER_BOTH
    return ScoreDifference(
        method, mean, low, high, interval, len(by_dataset), compared=len(lines), asked=asked
    )


def paired_scores(
    table: pd.DataFrame, pair: tuple[str, str], protocol: str, metric: str = MAIN
) -> pd.DataFrame:
    """Return the scores of two methods, means over the seeds that both have.

    Parameters
    ----------
    table
        As `long_table` makes it.

    Returns
    -------
    A line for each dataset and level in which both have a score, a column for each method.
    """
    lines = table[(table["protocol"] == protocol) & (table["metric"] == metric)]
    grid = lines[lines["method"].isin(pair)].pivot(
        index=[*PLACES, "seed"], columns="method", values="value"
    )
    return grid.reindex(columns=list(pair)).dropna().groupby(list(PLACES), sort=False).mean()


def method_difference(
    table: pd.DataFrame, pair: tuple[str, str], protocol: str, level: float, metric: str = MAIN
) -> ScoreDifference | None:
    """Return the score of one method minus another's, averaged over levels, then datasets.

    Parameters
    ----------
    table
        As `long_table` makes it. The interval is that of t over datasets; of one there is none.
    """
    paired = paired_scores(table, pair, protocol, metric)
    if paired.empty:
        return None
    lines = table[(table["protocol"] == protocol) & (table["metric"] == metric)]
    asked = len(lines[list(PLACES)].drop_duplicates())
    by_dataset = (paired[pair[0]] - paired[pair[1]]).groupby("dataset", sort=False).mean()
    mean, low, high = t_interval(by_dataset.tolist(), level)
    kind = OVER_DATASETS if len(by_dataset) > 1 else NO_INTERVAL
    return ScoreDifference(
        pair[1], mean, low, high, kind, len(by_dataset), compared=len(paired), asked=asked
    )


def over_what(interval: str) -> str:
    """Say in words over what an interval is taken."""
    words = {OVER_SEEDS: "t over seeds", OVER_CELLS: "bootstrap over cells"}
    words |= {OVER_BOTH: "t over seeds or bootstrap over cells", OVER_DATASETS: "t over datasets"}
    return words.get(interval, "no interval")


@dataclass(frozen=True)
class MethodRanking:
    """Mean ranks over the datasets that every method has completed; 1 is best.

    `different` holds the corrected p of each pair; `left_out` methods that failed too often.
    """

    datasets: list[str]
    ranks: pd.Series
    friedman_p: float
    different: pd.DataFrame
    left_out: list[str]


def rank_methods(scores: pd.DataFrame) -> MethodRanking | None:
    """Rank methods by their scores, shape (datasets, methods); NaN where one failed.

    Methods that fail most are left out, one by one, until six datasets are complete. Friedman's
    test says whether any differ; Conover's, corrected as Holm does, which.

    Returns
    -------
    None if fewer than six datasets or three methods are left.
    """
    left_out: list[str] = []
    while len(scores.dropna()) < FEWEST_DATASETS and scores.isna().any(axis=None):
        worst = str(scores.isna().sum().idxmax())
        left_out.append(worst)
        scores = scores.drop(columns=worst)
    complete = scores.dropna()
    if len(complete) < FEWEST_DATASETS or complete.shape[1] < FEWEST_METHODS:
        return None
    ranks = complete.rank(axis=1, ascending=False)
    if (ranks.nunique(axis=1) == 1).all():  # the tests divide by the spread of ranks
        return None
    return MethodRanking(
        datasets=list(map(str, complete.index)),
        ranks=ranks.mean().sort_values(),
        friedman_p=float(stats.friedmanchisquare(*complete.to_numpy().T).pvalue),
        different=_different(complete),
        left_out=left_out,
    )


def _different(complete: pd.DataFrame) -> pd.DataFrame:
    """Return the corrected p of each pair; where each dataset has the same order, that is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = scikit_posthocs.posthoc_conover_friedman(complete, p_adjust="holm")
    return found.fillna(1.0)


def scores_to_rank(means: pd.DataFrame, protocol: str, methods: Sequence[str]) -> pd.DataFrame:
    """Return the mean scores of a protocol, a row for each dataset and a column for each method."""
    chosen = means[(means["protocol"] == protocol) & (means["metric"] == MAIN)]
    table = chosen.pivot_table(index="dataset", columns="method", values="value", sort=False)
    return table.reindex(columns=[name for name in methods if name in set(chosen["method"])])


def chances(scores: pd.DataFrame, first: str) -> dict[str, tuple[float, float, float]] | None:
    """Return the chance that the first method is better than, equal to or worse than each other.

    That is, on a further dataset of this kind: the mean of the posterior of Bayes' sign test, whose
    prior counts as one dataset in which they are equal. Equal means within `EQUAL`. None with fewer
    than six datasets.
    """
    if first not in scores:
        return None
    found = {}
    for name in scores.columns.drop(first):
        both = scores[[first, name]].dropna()
        if len(both) >= FEWEST_DATASETS:
            gaps = both[first] - both[name]
            better, worse = int((gaps > EQUAL).sum()), int((gaps < -EQUAL).sum())
            all_of_them = len(gaps) + 1
            equal = all_of_them - better - worse
            found[str(name)] = (better / all_of_them, equal / all_of_them, worse / all_of_them)
    return found or None
