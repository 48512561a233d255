"""Numbers in words: what they mean, and how they and tables are written, for report and card."""

from collections.abc import Iterable, Sequence

from scbert.evidence.bootstrap import Interval
from scbert.evidence.comparison import Comparison
from scbert.evidence.pretraining_scores import HeldOutScores

METRICS = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "balanced_accuracy": "Balanced accuracy"}
NOTHING = "\N{EN DASH}"


def judge(comparison: Comparison) -> tuple[str, str]:
    """Say whether scBERT is ahead, behind or unclear, and in one sentence what that means.

    It is held against the baseline with the highest macro F1, by the difference of these scores.
    """
    best = comparison.best_baseline
    difference = comparison.difference(best.method) if best else None
    if best is None or difference is None:
        return "unclear", "No baseline was run beside scBERT, so its scores stand alone."
    rival, mean, low, high = best.title, difference.mean, difference.low, difference.high
    side = "ahead" if mean > 0 else "behind"
    place = "ahead of" if mean > 0 else side
    found = f"scBERT is {place} {rival} by {abs(mean):.3f} macro F1"
    if f"{abs(mean):.3f}" == "0.000":
        found = f"scBERT and {rival} reach the same macro F1"
    clear = low > 0 or high < 0
    meaning = "a clear difference on these test cells" if clear else "no clear difference"
    interval = f"{percent(comparison.confidence_level)} interval {signed(low)} to {signed(high)}"
    return side if clear else "unclear", f"{found} ({interval}: {meaning})."


def judge_pretraining(scores: HeldOutScores) -> tuple[str, str]:
    """Say what pretraining learnt: the skill over the best of the simple predictors."""
    names = {
        "cell_mode": "the cell's most common bin",
        "gene_mode": "the gene's most common bin",
        "additive": "an additive model of cell and gene",
    }
    mean, low, high = scores.skill.mean, scores.skill.low, scores.skill.high
    where = (
        f"On {count(scores.masked_tokens)} masked genes of {count(scores.cells)} "
        f"held-out cells, the model's loss is {percent(abs(mean))} "
        f"{'below' if mean > 0 else 'above'} that of the best simple predictor "
        f"({names[scores.best_predictor]}; {percent(scores.confidence_level)} "
        f"interval of the skill {signed(low)} to {signed(high)})"
    )
    if low > 0:
        return (
            "ahead",
            f"{where}: it uses information in the cell's other genes that no simple predictor has.",
        )
    if high < 0:
        return (
            "behind",
            f"{where}: it has learnt nothing beyond that; pretrain longer or on more cells.",
        )
    return "unclear", f"{where}: the difference is within the uncertainty of these cells."


def score(value: float | None) -> str:
    """Write a score with three digits; a dash where there is none."""
    return NOTHING if value is None else f"{value:.3f}"


def signed(value: float) -> str:
    """Write a difference with its sign."""
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "\N{MINUS SIGN}")


def percent(share: float | None) -> str:
    """Write a share in percent, whole where that loses nothing."""
    return (
        NOTHING
        if share is None
        else f"{100 * share:.1f}".removesuffix(".0") + "\N{NO-BREAK SPACE}%"
    )


def count(n: float) -> str:
    """Write a number of things, with commas."""
    return f"{n:,.0f}"


def duration(seconds: float) -> str:
    """Write a time in the two largest units that it fills."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def memory(megabytes: float | None) -> str:
    """Write an amount of memory in MB or GB; a dash where it was not measured."""
    if megabytes is None:
        return NOTHING
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """Return a table; the last columns, so many, hold numbers and stand right."""
    right = len(header) - numbers
    rule = ["---" if place < right else "---:" for place in range(len(header))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *rows])


def plain(name: object) -> str:
    """Write a name that cannot end a cell of a table, nor be read as HTML."""
    text = " ".join(str(name).split()).replace("|", "\\|")
    return text.replace("&", "&amp;").replace("<", "&lt;")


def score_with_interval(found: Interval) -> str:
    """Return a score and its interval."""
    return f"{found.mean:.3f} ({found.low:.3f}-{found.high:.3f})"


def difference_with_interval(found: Interval) -> str:
    """Return a difference of scores and its interval; no dash can stand between signs."""
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
