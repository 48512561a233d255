"""Figures of the benchmark: score against cost, and scores at each level of a protocol."""

from collections.abc import Hashable, Mapping
from itertools import cycle
from typing import Any

import pandas as pd

from scbert.report.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    VERMILION,
    WIDTH,
    Axes,
    Figure,
    label_ends,
    log_axis,
    short_name,
    svg_figure,
)

OCHRE = "#9a6a00"
LOOKS = {  # of a kind of methods: colour, marker, whether it is filled
    "scbert": (BLUE, "o", True),
    "peer": (OCHRE, "s", True),
    "baseline": (INK, "D", True),
    "control": (MUTED, "o", False),
}
PLAIN = (INK, "o", True)
OTHERS = (VERMILION, "#007a5a", "#a8518a", INK, OCHRE, MUTED)  # dark enough for names
LINES = [(colour, dashes) for dashes in ("-", "--", ":") for colour in OTHERS]


@svg_figure
def draw_cost(points: pd.DataFrame, score: str) -> Figure:
    """Draw each method's score against its time; the line joins those that none beats in both.

    Parameters
    ----------
    points
        Columns title, kind, seconds and score; methods without one of the two are left out.
    score
        The name of the vertical axis.
    """
    points = points.dropna().sort_values("seconds")
    height = max(3.4, 0.9 + 0.24 * len(points))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    best = points[points["score"] > points["score"].shift(fill_value=-9).cummax()]
    axes.plot(best["seconds"], best["score"], color=FAINT, linewidth=3, zorder=1)
    for line in points.to_dict("records"):
        colour, marker, filled = LOOKS.get(line["kind"], PLAIN)
        axes.plot(
            [line["seconds"]],
            [line["score"]],
            marker,
            color=colour,
            markerfacecolor=colour if filled else "white",
            markersize=7,
        )
    log_axis(axes, "seconds per 1,000 cells, learned from and named")
    axes.margins(x=0.06, y=0.08)
    axes.set_ylabel(score)
    axes.grid(axis="both")
    _join_names(axes, points)
    return figure


def _join_names(axes: Axes, points: pd.DataFrame) -> None:
    """Name the points at the right edge, each joined to its name by a thin line."""
    ends = [
        (line["score"], short_name(line["title"]), _colour(line["kind"]))
        for line in points.to_dict("records")
    ]
    label_ends(axes, ends, gap=0.95 / max(len(ends), 14))
    placed = {text.get_text(): text.get_position()[1] for text in axes.texts}
    bottom, top = axes.get_ylim()
    for line in points.to_dict("records"):
        height = placed[short_name(line["title"])]
        axes.annotate(
            "",
            xy=(line["seconds"], line["score"]),
            xytext=(1.015, height),
            textcoords=axes.transAxes,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkB": 4},
        )
    axes.set_ylim(bottom, top)


def _colour(kind: str) -> str:
    return LOOKS.get(kind, PLAIN)[0]


@svg_figure
def draw_levels(panels: Mapping[str, pd.DataFrame], first: str, score: str) -> Figure:
    """Draw scores at each level of a protocol, a panel for each; the first method stands out.

    Parameters
    ----------
    panels
        Title of a panel -> scores, shape (levels, methods), with a gap where a method failed; the
        columns are titles of methods.
    first
        The title of the method that stands out.
    score
        The name of the vertical axes.
    """
    rows = (len(panels) + 1) // 2
    most = max(len(table.columns) for table in panels.values())
    height = max(2.9, 0.8 + 0.2 * most)
    figure = Figure(figsize=(1.25 * WIDTH, height * rows), layout="constrained")
    figure.subplots(rows, min(len(panels), 2), squeeze=False)
    for axes in figure.axes[len(panels) :]:
        axes.set_axis_off()
    others = dict.fromkeys(name for table in panels.values() for name in table if name != first)
    looks = {first: (BLUE, "-")} | dict(zip(others, cycle(LINES), strict=False))
    for axes, (title, table) in zip(figure.axes, panels.items(), strict=False):
        _draw_panel(axes, table, looks, first)
        axes.set(title=title, ylabel=score)
    return figure


def _draw_panel(
    axes: Axes, table: pd.DataFrame, looks: Mapping[Hashable, tuple[str, str]], first: str
) -> None:
    levels = [str(level) for level in table.index]
    ends = []
    for title in table.columns:
        colour, dashes = looks[title]
        ours = title == first
        look: dict[str, Any] = {"color": colour, "linestyle": dashes, "zorder": 3 if ours else 2}
        axes.plot(
            range(len(levels)),
            table[title],
            marker="o",
            markersize=4,
            linewidth=2.6 if ours else 1.2,
            **look,
        )
        known = table[title].dropna()
        if len(known):
            ends.append((float(known.iloc[-1]), short_name(str(title), 26), colour))
    axes.set_xticks(range(len(levels)), levels)
    axes.set_xlim(-0.2, max(len(levels) - 1, 0) + 0.2)
    axes.grid(axis="y")
    axes.margins(y=0.06)
    label_ends(axes, ends, gap=0.98 / max(len(ends), 12))
