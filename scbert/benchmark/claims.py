"""Verdict on each claim of the paper, in one sentence made from the benchmark's differences."""

from dataclasses import dataclass

from scbert.benchmark.page_tables import Table, heads, words
from scbert.benchmark.results import PROTOCOLS, Results
from scbert.benchmark.statistics import (
    MAIN,
    ScoreDifference,
    method_difference,
    over_what,
)
from scbert.benchmark.summary import NO_INTERVAL
from scbert.report.text import percent, signed

CLAIMS = {
    "Robust to batch effects": ("across_batches", "across_datasets"),
    "Learns from few labels": ("few_labels",),
    "Robust to class imbalance": ("class_imbalance",),
    "Notices novel cell types": ("new_type",),
    "Interpretable": (),
}
NOVELTY = "novelty_auroc"
HOLDS, FAILS, OPEN, UNTESTED = "holds", "does not hold", "not shown", "not testable here"
SIDES = {"ahead": "ahead of", "behind": "behind", "unclear": "not clearly different from"}
OUTCOMES = {"ahead": HOLDS, "behind": FAILS, "unclear": OPEN}
LOOKS = {HOLDS: "ahead", FAILS: "behind"}


@dataclass(frozen=True)
class Verdict:
    """A claim, what became of it, and the sentence that says why."""

    claim: str
    outcome: str
    sentence: str

    @property
    def look(self) -> str:
        """The class of the page that colours it."""
        return LOOKS.get(self.outcome, "unclear")


def judge_claims(results: Results) -> list[Verdict]:
    """Judge each claim, by each of its protocols: against the best other method, by hindsight.

    It holds where the interval of the difference is above 0, does not where it is below, and is not
    shown in between.
    """
    found = []
    for claim, protocols in CLAIMS.items():
        tested = [name for name in protocols if name in results.protocols]
        if not protocols:
            found.append(Verdict(claim, UNTESTED, _not_measured(claim)))
        elif not tested:
            names = " or ".join(PROTOCOLS[name].lower() for name in protocols)
            reason = f"No dataset has tasks of the protocol {names}."
            found.append(Verdict(claim, UNTESTED, f"{claim}: {UNTESTED}. {reason}"))
        found += [_judge_claim(results, claim, protocol) for protocol in tested]
    return found


def _not_measured(claim: str) -> str:
    return (
        f"{claim}: {UNTESTED}. The benchmark asks for labels, not for reasons. Which gene rankings "
        "can be believed is in the deletion test of the workflow's report (results/report.html)."
    )


def compare_protocol(results: Results, protocol: str) -> Verdict:
    """Say in a sentence how the first method compares with the best peer or baseline."""
    outcome, reason = _judged(results, protocol)
    said = f"{outcome}. {reason}" if outcome == UNTESTED else reason
    return Verdict(PROTOCOLS[protocol], outcome, f"{PROTOCOLS[protocol]}: {said}")


def _judge_claim(results: Results, claim: str, protocol: str) -> Verdict:
    outcome, reason = _judged(results, protocol)
    name = PROTOCOLS[protocol].lower()
    where = claim if name in claim.lower() else f"{claim} ({name})"
    return Verdict(where, outcome, f"{where}: {outcome}. {reason}")


def _judged(results: Results, protocol: str) -> tuple[str, str]:
    """Return what became of a protocol, and why."""
    by_novelty = protocol == "new_type"
    one = _novelty_difference(results) if by_novelty else _difference(results, protocol)
    if one is None:
        return UNTESTED, _why_not(results, protocol)
    metric, ours = "AUROC of novelty" if by_novelty else "macro F1", results.title(results.first)
    said = [
        f"{ours} {_beside(one)} the best other method, {results.title(one.method)}: "
        f"{signed(one.value)} {metric}{with_ends(one, results.confidence_level)}."
    ]
    lacking = _failures(results, protocol)
    if lacking:
        said.append(f"{ours} failed in {lacking}, which this leaves out.")
    left_out = _incomplete(results, protocol, NOVELTY if by_novelty else MAIN)
    if left_out:
        listed = ", ".join(
            f"{results.title(name)} ({signed(gap)} where it has them)"
            for name, gap in left_out.items()
        )
        said.append(f"Not among the others, for they lack scores: {listed}.")
    doubt = bool(lacking) or any(gap <= 0 for gap in left_out.values())
    outcome = OUTCOMES[one.side]
    return OPEN if doubt and outcome == HOLDS else outcome, " ".join(said)


def _incomplete(results: Results, protocol: str, metric: str) -> dict[str, float]:
    """Return the rivals that lack scores: how far the first is from each where both have one."""
    table, complete = results.scores(metric, protocol), results.complete(metric, protocol)
    some = [name for name in results.rivals if name in set(table["method"]) - set(complete)]
    level = results.confidence_level
    found = {
        name: method_difference(results.long, (results.first, name), protocol, level, metric)
        for name in some
    }
    return {name: one.value for name, one in found.items() if one is not None}


def _beside(one: ScoreDifference) -> str:
    return "beside" if one.interval == NO_INTERVAL else f"is {SIDES[one.side]}"


def _failures(results: Results, protocol: str) -> str:
    table = results.scores(protocol=protocol)
    table = table[table["method"] == results.first]
    failed = table[table["failed_seeds"] > 0]
    levels = ", ".join(dict.fromkeys(level.replace("_", " ") for level in failed["level"]))
    return f"{len(failed)} of {len(table)} scores ({levels})" if len(failed) else ""


def _why_not(results: Results, protocol: str) -> str:
    """Return what a comparison lacks: the score of the first method, or one to hold it against."""
    ours, asked = results.title(results.first), results.scores(protocol=protocol)
    mine = asked[asked["method"] == results.first]
    if mine.empty:
        return f"{ours} was not asked there."
    if mine["value"].isna().all():
        return f"{ours} failed there."
    if protocol != "new_type":
        return "No peer or baseline has a score for all tasks there."
    noticed = results.scores(NOVELTY, protocol)["method"]
    if results.first not in set(noticed):
        return f"{ours} has no score of novelty there."
    return "No peer or baseline has a score of novelty for all tasks there."


def with_ends(one: ScoreDifference, level: float) -> str:
    """Return the interval of a difference in brackets, and how many datasets it is of."""
    sets = f"{one.datasets} dataset" + "s" * (one.datasets != 1)
    if one.compared < one.asked:
        sets += f", {one.compared} of {one.asked} tasks: the others lack a score of one of the two"
    if one.interval == NO_INTERVAL:
        return f" ({sets}; no interval)"
    ends = f"{signed(one.low)} to {signed(one.high)}"
    return f" ({percent(level)} interval {ends}, {over_what(one.interval)}; {sets})"


def _difference(results: Results, protocol: str) -> ScoreDifference | None:
    rival = results.best_rival(protocol)
    return next((one for one in results.compared(protocol) if one.method == rival), None)


def _novelty_difference(results: Results) -> ScoreDifference | None:
    """Return the difference to the best of the others in noticing a new type."""
    best = results.best_rival("new_type", NOVELTY)
    if best is None:
        return None
    level = results.confidence_level
    return method_difference(results.long, (results.first, best), "new_type", level, NOVELTY)


def claims_table(verdicts: list[Verdict]) -> Table:
    """Return the claims as a table."""
    rows = [[words(one.claim), words(one.outcome)] for one in verdicts]
    header = heads(["Claim of the paper", "Outcome"], texts=2)
    return Table(name="claims", caption="Claims of the paper", heads=header, rows=rows)
