"""What the benchmark says of each claim of the paper, in one sentence made from the differences."""

from dataclasses import dataclass

from scbert.benchmark.page_tables import Table, heads, words
from scbert.benchmark.results import PROTOCOLS, RIVALS, Results
from scbert.benchmark.statistics import (
    Difference,
    method_difference,
    over_what,
    paired_differences,
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
        found += [_judged(results, claim, protocol) for protocol in tested]
    return found


def _not_measured(claim: str) -> str:
    return (
        f"{claim}: {UNTESTED}. The benchmark asks for labels, not for reasons. Which gene rankings "
        "can be believed is in the deletion test of the workflow's report (results/report.html)."
    )


def compare_protocol(results: Results, protocol: str) -> Verdict:
    """Say in a sentence how the first method compares with the best peer or baseline."""
    found = _judged(results, PROTOCOLS[protocol], protocol)
    if found.outcome == UNTESTED:
        return found
    sentence = found.sentence.removeprefix(f"{found.claim}: {found.outcome}. ")
    return Verdict(found.claim, found.outcome, f"{found.claim}: {sentence}")


def _judged(results: Results, claim: str, protocol: str) -> Verdict:
    by_novelty = protocol == "new_type"
    one = _novelty_difference(results) if by_novelty else _difference(results, protocol)
    name = PROTOCOLS[protocol].lower()
    where = claim if name in claim.lower() else f"{claim} ({name})"
    if one is None:
        return Verdict(claim, UNTESTED, f"{where}: {UNTESTED}. {_why_not(results)}")
    outcome, failed = {"ahead": HOLDS, "behind": FAILS}.get(one.side, OPEN), ""
    metric, ours = "AUROC of novelty" if by_novelty else "macro F1", results.title(results.first)
    if lacking := _failures(results, protocol):
        outcome = OPEN if outcome == HOLDS else outcome
        failed = f" {ours} failed in {lacking}, which this leaves out."
    return Verdict(
        claim,
        outcome,
        f"{where}: {outcome}. {ours} {_beside(one)} the best other method, "
        f"{results.title(one.method)}: {signed(one.value)} {metric}"
        f"{with_ends(one, results.confidence_level)}.{failed}",
    )


def _beside(one: Difference) -> str:
    return "beside" if one.interval == NO_INTERVAL else f"is {SIDES[one.side]}"


def _failures(results: Results, protocol: str) -> str:
    table = results.scores(protocol=protocol)
    table = table[table["method"] == results.first]
    failed = table[table["failed_seeds"] > 0]
    levels = ", ".join(dict.fromkeys(level.replace("_", " ") for level in failed["level"]))
    return f"{len(failed)} of {len(table)} scores ({levels})" if len(failed) else ""


def _why_not(results: Results) -> str:
    return (
        f"{results.title(results.first)} failed there, or no peer or baseline has completed all of "
        "its tasks."
    )


def with_ends(one: Difference, level: float) -> str:
    """Return the interval of a difference in brackets, and how many datasets it is of."""
    sets = f"{one.datasets} dataset" + "s" * (one.datasets != 1)
    if one.interval == NO_INTERVAL:
        return f" ({sets}; one seed, so no interval)"
    ends = f"{signed(one.low)} to {signed(one.high)}"
    return f" ({percent(level)} interval {ends}, {over_what(one.interval)}; {sets})"


def _difference(results: Results, protocol: str) -> Difference | None:
    rival = results.best_rival(protocol)
    found = paired_differences(results.differences, protocol, results.confidence_level)
    return next((one for one in found if one.method == rival), None)


def _novelty_difference(results: Results) -> Difference | None:
    """Return the difference to the best of the others in noticing a new type."""
    table = results.scores(NOVELTY, "new_type")
    rivals = table[table["method"].isin(results.of_kind(*RIVALS))]
    if rivals.empty:
        return None
    best = str(rivals.groupby("method")["value"].mean().idxmax())
    level = results.confidence_level
    return method_difference(results.long, (results.first, best), "new_type", level, NOVELTY)


def claims_table(verdicts: list[Verdict]) -> Table:
    """Return the claims as a table."""
    rows = [[words(one.sentence.partition(": ")[0]), words(one.outcome)] for one in verdicts]
    header = heads(["Claim of the paper", "Outcome"], texts=2)
    return Table(name="claims", caption="Claims of the paper", heads=header, rows=rows)
