"""The page that sums up what was found in files of cells; the layout is queries.html.jinja."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from scbert.report.report import inline_figure
from scbert.report.text import count, percent, score


def render_queries(summaries: Sequence[Mapping[str, Any]], figures: Mapping[str, str]) -> str:
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
