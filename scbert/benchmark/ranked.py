"""Ranks and differences of the two protocols that every user meets, for the page."""

from dataclasses import dataclass, replace

from scbert.benchmark.page_tables import (
    Cell,
    ColumnHead,
    Table,
    chance,
    difference,
    heads,
    number,
    words,
)
from scbert.benchmark.results import PROTOCOLS, Results
from scbert.benchmark.score_tables import datasets_table
from scbert.benchmark.statistics import (
    FEWEST_DATASETS,
    TOO_FEW,
    MethodRanking,
    ScoreDifference,
    chances,
    over_what,
    rank_methods,
    scores_to_rank,
)

RANKED = ("within_dataset", "across_batches")


@dataclass(frozen=True)
class RankedProtocol:
    """Ranks of a protocol, for the page; without ranks `figure` is empty."""

    title: str
    sentence: str
    figure: str
    ranking: MethodRanking | None
    ranks: Table | None
    differences: Table
    scores: Table


def ranked_protocols(results: Results) -> list[RankedProtocol]:
    """Rank the methods within datasets and across batches, where there are datasets enough."""
    found = []
    for protocol in RANKED:
        if protocol not in results.protocols:
            continue
        methods = [name for name in results.methods if results.kind(name) != "control"]
        scores = scores_to_rank(results.means, protocol, methods)
        ranking = rank_methods(scores.reindex(_asked(results, protocol)))
        found.append(
            RankedProtocol(
                title=PROTOCOLS[protocol],
                sentence=_sentence(results, ranking, len(scores)),
                figure=f"ranks-{protocol}" if ranking else "",
                ranking=ranking,
                ranks=ranks_table(results, protocol, ranking) if ranking else None,
                differences=differences_table(results, protocol),
                scores=datasets_table(results, protocol),
            )
        )
    return found


def _asked(results: Results, protocol: str) -> list[str]:
    scores = results.rooms.scores
    return list(dict.fromkeys(scores["dataset"][scores["protocol"] == protocol]))


def _sentence(results: Results, ranking: MethodRanking | None, datasets: int) -> str:
    if ranking is None:
        return (
            f"{TOO_FEW}: {datasets} of {FEWEST_DATASETS} that are needed, each with a score of at "
            "least three methods. Differences on the same cells stand alone."
        )
    names = [results.title(name) for name in ranking.left_out]
    left_out = f" Left out, for they failed: {', '.join(names)}." if names else ""
    differ = ranking.friedman_p < 1 - results.confidence_level
    found = "methods differ" if differ else "no difference between methods is shown"
    return (
        f"Over {len(ranking.datasets)} datasets, {found} (Friedman's test, p = "
        f"{ranking.friedman_p:.2g}).{left_out}"
    )


def differences_table(results: Results, protocol: str) -> Table:
    """Return the differences of the first method and each other, with the chances if known."""
    found = results.compared(protocol)
    methods = [results.first, *(one.method for one in found)]
    shares = chances(scores_to_rank(results.means, protocol, methods), results.first) or {}
    ours = results.title(results.first)
    names = [f"{ours} minus …", "Macro F1", "Interval", "Datasets"]
    header = heads(names) + [
        ColumnHead(name, meaning="The chance of that on a further dataset; equal: within 0.01")
        for name in ("Better", "Equal", "Worse")
        if shares
    ]
    return Table(
        name=f"differences-{protocol}",
        caption=f"{ours} beside each other method: {PROTOCOLS[protocol].lower()}",
        heads=[replace(one, number=one.text not in {names[0], "Interval"}) for one in header],
        rows=[_difference_row(results, one, shares) for one in found],
        looks=[results.kind(one.method) for one in found],
    )


def _difference_row(
    results: Results, one: ScoreDifference, shares: dict[str, tuple[float, float, float]]
) -> list[Cell]:
    row = [words(results.title(one.method)), difference(one.value, one.low, one.high)]
    row += [words(over_what(one.interval)), number(one.datasets, "{:.0f}")]
    if shares:
        row += [number(share, "{:.2f}") for share in shares.get(one.method, [None] * 3)]
    return row


def ranks_table(results: Results, protocol: str, ranking: MethodRanking) -> Table:
    """Return the mean ranks, and how sure it is that a method differs from the best."""
    best = str(ranking.ranks.index[0])
    p_of = ranking.different[best]
    rows = [
        [
            words(results.title(str(name))),
            number(float(rank), "{:.2f}"),
            chance(None if name == best else float(p_of[str(name)])),
        ]
        for name, rank in ranking.ranks.items()
    ]
    return Table(
        name=f"ranks-{protocol}",
        caption=f"Mean ranks over {len(ranking.datasets)} datasets: {PROTOCOLS[protocol].lower()}",
        heads=heads(["Method", "Mean rank", f"p against {results.title(best)}"]),
        rows=rows,
        looks=[results.kind(str(name)) for name in ranking.ranks.index],
    )
