"""The report: one HTML page that holds every number, figure and setting, and computes none.

The layout is report.html.jinja; here are the words and the number formats.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree as ET

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

Json = dict[str, Any]

METRICS = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "balanced_accuracy": "Balanced accuracy"}
KINDS = ("model", "half", "baseline", "control")
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class StepCost:
    """What one step of the workflow took."""

    step: str
    seconds: float
    memory: float | None  # peak resident memory, MB; None if the step was too short to be measured


@dataclass(frozen=True)
class DatasetEvidence:
    """What the workflow's files hold about one labelled dataset."""

    evaluation: Json
    comparison: Json
    explanation: Json
    figures: Mapping[str, str]  # name -> SVG

    @property
    def name(self) -> str:
        """The name of the dataset."""
        return str(self.evaluation["dataset"])

    @property
    def methods(self) -> list[Json]:
        """ScBERT, then the baselines, then the controls."""
        return sorted(self.comparison["methods"], key=lambda m: KINDS.index(m["kind"]))

    @property
    def model(self) -> Json:
        """ScBERT's line of the comparison."""
        return self.methods[0]

    @property
    def rival(self) -> Json | None:
        """The baseline with the highest macro F1 on the test cells; None if none was run."""
        baselines = [m for m in self.methods if m["kind"] == "baseline"]
        return max(baselines, key=lambda m: m["macro_f1"]["mean"], default=None)

    @property
    def best(self) -> str:
        """The method with the highest macro F1 on the test cells."""
        best = max(self.methods, key=lambda m: m["macro_f1"]["mean"])
        return str(best["method"])

    def difference(self, method: str, metric: str = "macro_f1") -> Json | None:
        """scBERT minus a method, with its interval."""  # noqa: D403  a name
        found = self.comparison["differences"]
        return next((d for d in found if (d["method"], d["metric"]) == (method, metric)), None)

    @property
    def verdict(self) -> tuple[str, str]:
        """Whether scBERT is ahead, behind or unclear, and the sentence that says so."""
        difference = self.difference(self.rival["method"]) if self.rival else None
        if self.rival is None or difference is None:
            return "unclear", "No baseline was run beside scBERT, so its scores stand alone."
        return judge(difference, self.rival["title"], self.comparison["confidence_level"])


@dataclass(frozen=True)
class Evidence:
    """All that a report shows."""

    datasets: Sequence[DatasetEvidence]
    figures: Mapping[str, str]  # of the corpus: name -> SVG
    quality: Sequence[Json]  # a line for each file of cells
    overlaps: Sequence[Json]
    stores: Sequence[Json]
    gene2vec: Json
    gene2vec_quality: Json
    validation: Json
    steps: Sequence[StepCost]
    config: Json
    provenance: Json


def render_report(evidence: Evidence) -> str:
    """Return the report as one HTML page.

    Raises
    ------
    ValueError
        If a figure is missing.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": count,
        "duration": duration,
        "memory": memory,
        "percent": percent,
        "score": score,
        "signed": signed,
    }
    environment.globals |= {"figure": inline_figure, "METRICS": METRICS}
    template = files("scbert.evidence").joinpath("report.html.jinja").read_text()
    page = environment.from_string(template).render(
        evidence=evidence,
        overlaps={overlap["sample"]: overlap for overlap in evidence.overlaps},
        settings=yaml.safe_dump(evidence.config, sort_keys=False, allow_unicode=True),
        pretraining=judge_pretraining(evidence.validation),
        largest=_largest(evidence.steps),
    )
    return page.lstrip()


def _largest(steps: Sequence[StepCost]) -> StepCost:
    """Return what fills a bar; never zero."""
    seconds = max((step.seconds for step in steps), default=0)
    megabytes = max((step.memory or 0 for step in steps), default=0)
    return StepCost("largest", seconds or 1, megabytes or 1)


def judge(difference: Json, rival: str, confidence_level: float) -> tuple[str, str]:
    """Say in one sentence what a difference of macro F1, scBERT minus a rival, means."""
    mean, low, high = difference["mean"], difference["low"], difference["high"]
    side = "ahead" if mean > 0 else "behind"
    place = "ahead of" if mean > 0 else side
    found = f"scBERT is {place} {rival} by {abs(mean):.3f} macro F1"
    if f"{abs(mean):.3f}" == "0.000":
        found = f"scBERT and {rival} reach the same macro F1"
    clear = low > 0 or high < 0
    meaning = "a clear difference on these test cells" if clear else "no clear difference"
    interval = f"{percent(confidence_level)} interval {signed(low)} to {signed(high)}"
    return side if clear else "unclear", f"{found} ({interval}: {meaning})."


def judge_pretraining(validation: Json) -> tuple[str, str]:
    """Say what pretraining learnt: the skill over the best of the simple predictors."""
    names = {
        "cell_mode": "the cell's most common bin",
        "gene_mode": "the gene's most common bin",
        "additive": "the sum of a part for the cell and a part for the gene",
    }
    mean, low, high = (validation["skill"][key] for key in ("mean", "low", "high"))
    where = (
        f"On {count(validation['masked_tokens'])} masked genes of {count(validation['cells'])} "
        f"held-out cells, the model's loss is {percent(abs(mean))} "
        f"{'below' if mean > 0 else 'above'} that of the best simple predictor "
        f"({names[validation['best_predictor']]}; {percent(validation['confidence_level'])} "
        f"interval of the skill {signed(low)} to {signed(high)})"
    )
    if low > 0:
        return (
            "ahead",
            f"{where}: the cell's other genes have told it what no simple predictor holds.",
        )
    if high < 0:
        return (
            "behind",
            f"{where}: it has learnt nothing beyond that; pretrain longer or on more cells.",
        )
    return "unclear", f"{where}: these cells cannot tell the two apart."


def inline_figure(figures: Mapping[str, str], name: str, place: str, description: str) -> Markup:
    """Return a figure as an SVG element for HTML.

    Its ids get the place as a prefix, because every figure of a page shares one space of ids.
    """
    if name not in figures:
        raise ValueError(
            f"{place} has no figure {name}.svg; there are {', '.join(sorted(figures)) or 'none'}. "
            "Draw it first: the report draws nothing."
        )
    root = ET.fromstring(figures[name])
    for parent in list(root.iter()):
        for child in [one for one in parent if _local(one.tag) in {"metadata", "style"}]:
            parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {
            _local(key): _with_prefix(_local(key), value, f"{place}-{name}-")
            for key, value in element.attrib.items()
        }
    root.attrib |= {"role": "img", "aria-label": description, "class": "drawing"}
    root.set("style", "stroke-linejoin:round;stroke-linecap:butt")  # the style that was removed
    return Markup(ET.tostring(root, encoding="unicode"))  # serialised, hence escaped


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _with_prefix(key: str, value: str, prefix: str) -> str:
    if key == "id":
        return prefix + value
    if key == "href":
        return re.sub(r"^#", f"#{prefix}", value)
    return re.sub(r"url\(#", f"url(#{prefix}", value)


def score(value: float | None) -> str:
    """Write a score with three digits; a dash where there is none."""
    return NOTHING if value is None else f"{value:.3f}"


def signed(value: float) -> str:
    """Write a difference with its sign."""
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


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
