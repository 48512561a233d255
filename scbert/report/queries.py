"""The page of annotated files, and the figure of each; the layout is queries.html.jinja."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from scbert.evidence.query_summary import QuerySummary
from scbert.report.report import inline_figure
from scbert.report.style import (
    FAINT,
    LEGEND_MARKER,
    VECTOR_POINTS,
    VERMILION,
    WIDTH,
    Figure,
    draw_types,
    svg_figure,
)
from scbert.report.text import count, percent, score

MOST_TYPES = 35  # as many pairs of colour and shape as there are


@dataclass(frozen=True)
class NamedCell:
    """A cell in the plane, its label, and whether it is called unknown."""

    x: float
    y: float
    label: str
    is_unknown: bool


@svg_figure
def draw_named_cells(cells: Sequence[NamedCell], types: Sequence[str]) -> Figure:
    """Draw cells by their label, and beside it which of them are called unknown.

    Parameters
    ----------
    types
        The labels, the most frequent first; those that cannot be told apart are left out.
    """
    shown = types[:MOST_TYPES]
    height = max(3.9, 0.19 * len(shown) + 1.0)
    figure = Figure(figsize=(WIDTH + 1.2, height), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    image = len(cells) > VECTOR_POINTS
    draw_types(panels[0], cells, "label", shown, image=image)
    for unknown, colour in ((False, FAINT), (True, VERMILION)):
        some = [cell for cell in cells if cell.is_unknown == unknown]
        panels[1].plot(
            [cell.x for cell in some],
            [cell.y for cell in some],
            "o",
            color=colour,
            markersize=3 if image else 5,
            markeredgewidth=0,
            label="unknown" if unknown else "other cells",
            rasterized=image,
        )
    for axes, title in zip(panels, ("Label", "Unknown cells"), strict=True):
        axes.set(title=title, xlabel="UMAP 1", xticks=[], yticks=[])
    panels[0].set_ylabel("UMAP 2")
    legend = figure.legend(loc="outside right center")
    for handle in filter(None, legend.legend_handles):
        handle.set(markersize=LEGEND_MARKER)
    return figure


def render_queries(summaries: Sequence[QuerySummary], figures: Mapping[str, str]) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    summaries
        What summarize_query wrote of each file.
    figures
        The SVG text of each, by the name of the query.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": count, "percent": percent, "score": score}
    environment.globals |= {"figure": inline_figure}
    here = files("scbert.report")
    page = environment.from_string(here.joinpath("queries.html.jinja").read_text()).render(
        queries=summaries,
        figures=figures,
        style=Markup(here.joinpath("page.css").read_text()),  # ours, hence not escaped
    )
    return page.lstrip()
