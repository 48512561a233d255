"""Ranks and differences of the two protocols that every user meets, for the page."""

from dataclasses import dataclass

from scbert.benchmark.page_tables import Table
from scbert.benchmark.results import PROTOCOLS, Results
from scbert.benchmark.score_tables import datasets_table, differences_table, ranks_table
from scbert.benchmark.statistics import (
    FEWEST_DATASETS,
    TOO_FEW,
    Ranking,
    rank_methods,
    scores_to_rank,
)

RANKED = ("within_dataset", "across_batches")


@dataclass(frozen=True)
class RankedProtocol:
    """What the page says of a protocol; without ranks `figure` is empty."""

    title: str
    sentence: str
    figure: str
    ranking: Ranking | None
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


def _sentence(results: Results, ranking: Ranking | None, datasets: int) -> str:
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
