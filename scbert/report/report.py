"""The report: one HTML page that holds every number, figure and setting, and computes none.

The layout is report.html.jinja; verdicts and number formats are of wording.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from xml.etree import ElementTree as ET

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from scbert.cells.quality import SampleQuality
from scbert.config import Config
from scbert.config.cells import TRANSCRIPTOME_GENES
from scbert.evidence.comparison import Comparison
from scbert.evidence.evaluation import Evaluation
from scbert.evidence.explained import Explained
from scbert.evidence.pretraining_scores import PretrainingScores
from scbert.evidence.vector_quality import VectorQuality
from scbert.genes.overlap import Overlap
from scbert.genes.vector_files import VectorsMeta
from scbert.provenance import Provenance
from scbert.report.text import (
    METRICS,
    count,
    duration,
    judge,
    judge_pretraining,
    memory,
    percent,
    score,
    signed,
)
from scbert.tokens.store_files import StoreMeta


@dataclass(frozen=True)
class StepCost:
    """What one step of the workflow took."""

    step: str
    seconds: float
    memory: float | None  # peak resident memory, MB; None if the step was too short to be measured


@dataclass(frozen=True)
class DatasetEvidence:
    """What the workflow's files hold about one labelled dataset."""

    evaluation: Evaluation
    comparison: Comparison
    explanation: Explained
    figures: Mapping[str, str]  # name -> SVG

    @property
    def name(self) -> str:
        """The name of the dataset."""
        return self.evaluation.dataset

    @property
    def best(self) -> str:
        """The method with the highest macro F1 on the test cells."""
        return max(self.comparison.by_kind, key=lambda found: found.macro_f1.mean).method

    @property
    def verdict(self) -> tuple[str, str]:
        """Whether scBERT is ahead, behind or unclear, and the sentence that says so."""
        return judge(self.comparison)


@dataclass(frozen=True)
class CorpusEvidence:
    """What they hold about the cells that were read, their tokens, genes and the pretraining."""

    figures: Mapping[str, str]  # name -> SVG
    quality: Sequence[SampleQuality]  # a line for each file of cells
    overlaps: Sequence[Overlap]
    stores: Sequence[StoreMeta]
    gene2vec: VectorsMeta
    gene2vec_quality: VectorQuality
    pretraining: PretrainingScores


@dataclass(frozen=True)
class Evidence:
    """All that a report shows."""

    corpus: CorpusEvidence
    datasets: Sequence[DatasetEvidence]
    steps: Sequence[StepCost]
    config: Config
    provenance: Provenance


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
    environment.globals |= {
        "figure": inline_figure,
        "METRICS": METRICS,
        "TRANSCRIPTOME_GENES": TRANSCRIPTOME_GENES,
    }
    template = files("scbert.report").joinpath("report.html.jinja").read_text()
    style = files("scbert.report").joinpath("page.css").read_text()
    page = environment.from_string(template).render(
        evidence=evidence,
        style=Markup(style),  # ours, hence not escaped
        overlaps={overlap["sample"]: overlap for overlap in evidence.corpus.overlaps},
        settings=yaml.safe_dump(
            evidence.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        ),
        pretraining=judge_pretraining(evidence.corpus.pretraining),
        largest=_largest(evidence.steps),
    )
    return page.lstrip()


def _largest(steps: Sequence[StepCost]) -> StepCost:
    """Return what fills a bar; never zero."""
    seconds = max((step.seconds for step in steps), default=0)
    megabytes = max((step.memory or 0 for step in steps), default=0)
    return StepCost("largest", seconds or 1, megabytes or 1)


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
