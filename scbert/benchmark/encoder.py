"""What the encoder is worth: pretrained or not, alone; and beside the other experts of scBERT."""

from collections.abc import Mapping

from scbert.benchmark.claims import FAILS, HOLDS, OPEN, OUTCOMES, UNTESTED, Verdict, with_ends
from scbert.benchmark.page_tables import Cell, Table, heads, number, words
from scbert.benchmark.results import PROTOCOLS, Results
from scbert.benchmark.statistics import (
    ScoreDifference,
    method_difference,
    paired_scores,
)
from scbert.report.text import NOTHING, signed

QUESTION = "Does pretraining help?"
PRETRAINING = {  # frozen or fine-tuned -> methods with a pretrained encoder and without
    "frozen": ("encoder", "random_encoder"),
    "fine-tuned": ("trained_encoder", "random_trained_encoder"),
}
WITH, WITHOUT = "scbert", "without_encoder"
ANSWERS = {HOLDS: "Yes", FAILS: "No", OPEN: "Not shown"}


def pretraining_table(results: Results) -> Table:
    """Return frozen and fine-tuned x pretrained and not, by the protocol that most of them met."""
    protocol = pretraining_protocol(results)
    rows = []
    for how, pair in PRETRAINING.items():
        both = paired_scores(results.long, pair, protocol)
        found = _gain(results, pair, protocol)
        means = both.groupby("dataset").mean().mean()
        gain = Cell(NOTHING) if found is None else Cell(signed(found.value), found.value)
        tasks = f"{found.compared} of {found.asked}" if found else NOTHING
        rows.append([words(how), *(number(means.get(name)) for name in pair), gain, words(tasks)])
    return Table(
        name="pretraining",
        caption="Macro F1 of the encoder alone"
        + (f": {PROTOCOLS[protocol].lower()}" if protocol else ""),
        heads=heads(["Encoder", "Pretrained", "Not pretrained", "Difference", "Tasks of both"]),
        rows=rows,
    )


def pretraining_protocol(results: Results) -> str:
    """Return the protocol in which most of the methods with and without pretraining have scores."""
    wanted = {name for pair in PRETRAINING.values() for name in pair}
    found = {
        protocol: len(wanted & set(results.scores(protocol=protocol)["method"]))
        for protocol in results.protocols
    }
    best = max(found, key=lambda name: found[name], default="")
    return best if best and found[best] else ""


def pretraining_verdict(results: Results) -> Verdict:
    """Say in one sentence whether pretraining helps."""
    claim, protocol = "Pretraining helps", pretraining_protocol(results)
    pairs = {how: _gain(results, pair, protocol) for how, pair in PRETRAINING.items()}
    found = {how: one for how, one in pairs.items() if one is not None}
    if not found:
        names = ", ".join(name for pair in PRETRAINING.values() for name in pair)
        return Verdict(
            claim,
            UNTESTED,
            f"{QUESTION} {UNTESTED.capitalize()}: no encoder was run both with and without "
            f"pretraining (benchmark.chosen, of {names}).",
        )
    outcome = _outcome(found)
    sentence = (
        f"{QUESTION} {ANSWERS[outcome]}. {PROTOCOLS[protocol]}, macro F1 with pretraining minus "
        f"without: {_listed(results, found)}."
    )
    return Verdict(claim, outcome, sentence)


def expert_verdict(results: Results) -> Verdict | None:
    """Say in one sentence what the encoder adds to the other experts, by each protocol.

    None where scBERT was not run without it.
    """
    if results.first != WITH or WITHOUT not in results.methods:
        return None
    found = {
        PROTOCOLS[name].lower(): one
        for name in results.protocols
        for one in results.compared(name)
        if one.method == WITHOUT
    }
    if not found:
        return None
    outcome = _outcome(found)
    claim = "The encoder helps beside the other experts"
    sentence = (
        f"Does the encoder help beside the other experts? {ANSWERS[outcome]}. "
        f"Macro F1 with it minus without: {_listed(results, found)}."
    )
    return Verdict(claim, outcome, sentence)


def _listed(results: Results, found: Mapping[str, ScoreDifference]) -> str:
    level = results.confidence_level
    return "; ".join(
        f"{name} {signed(one.value)}{with_ends(one, level)}" for name, one in found.items()
    )


def _outcome(found: Mapping[str, ScoreDifference]) -> str:
    """Return what all differences show; of several, one that is clear is no answer."""
    sides = {one.side for one in found.values()}
    return OUTCOMES[sides.pop()] if len(sides) == 1 else OPEN


def _gain(results: Results, pair: tuple[str, str], protocol: str) -> ScoreDifference | None:
    return method_difference(results.long, pair, protocol, results.confidence_level)
