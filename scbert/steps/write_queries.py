"""Rule write_queries: what was found in each file of cells -> one page."""

from collections.abc import Sequence
from pathlib import Path

from scbert.evidence.query_summary import QuerySummary
from scbert.files import write_text
from scbert.report.queries import render_queries


def write_queries(summaries: Sequence[Path], figures: Sequence[Path], page: Path) -> None:
    """Lay out what was found as one HTML file that needs nothing beside itself.

    Parameters
    ----------
    summaries, figures
        What summarize_query wrote, {query}.json and {query}.svg, one each for every query.
    page
        The HTML file to write.
    """
    drawn = {path.stem: path.read_text() for path in figures}
    write_text(page, render_queries(list(map(QuerySummary.read, summaries)), drawn))
