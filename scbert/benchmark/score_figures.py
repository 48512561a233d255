"""Figures of the benchmark's page: mean ranks, score against cost, scores at each level."""

import re
from collections.abc import Hashable, Mapping, Sequence
from itertools import cycle

import pandas as pd
from scikit_posthocs import critical_difference_diagram

from scbert.benchmark.ranked import RankedProtocol
from scbert.benchmark.results import Results, cost_of, mean_by
from scbert.benchmark.statistics import MethodRanking
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
ROW = 0.2  # inches for a name
LEVEL = re.compile(r"^([\d.]+)_(.+)$")
PANELS = {
    ("few_labels", "per_type"): "Cells of each type to learn from",
    ("few_labels", "percent"): "% of the cells to learn from",
    ("class_imbalance", "to_1"): "Common cells for each rare one",
    ("label_noise", "percent"): "% wrong labels among the cells to learn from",
}
FEWEST_LEVELS = 2  # that make a line


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
        axes.plot(
            range(len(levels)),
            table[title],
            marker="o",
            markersize=4,
            linewidth=2.6 if ours else 1.2,
            color=colour,
            linestyle=dashes,
            zorder=3 if ours else 2,
        )
        known = table[title].dropna()
        if len(known):
            ends.append((float(known.iloc[-1]), short_name(str(title), 26), colour))
    axes.set_xticks(range(len(levels)), levels)
    axes.set_xlim(-0.2, max(len(levels) - 1, 0) + 0.2)
    axes.grid(axis="y")
    axes.margins(y=0.06)
    label_ends(axes, ends, gap=0.98 / max(len(ends), 12))


@svg_figure
def draw_ranks(
    ranking: MethodRanking, titles: Mapping[str, str], first: str, level: float
) -> Figure:
    """Draw mean ranks, the best left; a bar joins methods that the tests cannot tell apart."""
    names = {name: short_name(titles[str(name)]) for name in ranking.ranks.index}
    ranks = ranking.ranks.rename(index=names)
    different = ranking.different.rename(index=names, columns=names)
    height = 1.3 + ROW * len(ranks)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    critical_difference_diagram(
        ranks,
        different,
        alpha=1 - level,
        ax=axes,
        text_h_margin=0.06,
        label_fmt_left="{label}  {rank:.1f}",
        label_fmt_right="{rank:.1f}  {label}",
        color_palette={name: BLUE if key == first else INK for key, name in names.items()},
        elbow_props={"linewidth": 1},
        crossbar_props={"color": MUTED, "linewidth": 4},
    )
    axes.set_title("mean rank", loc="center", fontweight="normal", fontsize=9)
    return figure


def draw_all(results: Results, ranks: Sequence[RankedProtocol]) -> dict[str, str]:
    """Return the figures that the results allow: name -> SVG."""
    score = "macro F1, control-scaled" if results.has_control else "macro F1"
    titles = {name: results.title(name) for name in results.methods}
    level = results.confidence_level
    figures = {
        one.figure: draw_ranks(one.ranking, titles, results.first, level)
        for one in ranks
        if one.ranking is not None
    }
    points = _cost_points(results)
    if len(points.dropna()):
        figures["cost"] = draw_cost(points, score)
    panels = _panels(results)
    if panels:
        figures["levels"] = draw_levels(panels, titles[results.first], score)
    return figures


def _shown(results: Results) -> list[str]:
    """Return the methods without the controls, which would press the others together."""
    return [name for name in results.methods if results.kind(name) != "control"]


def _cost_points(results: Results) -> pd.DataFrame:
    protocol = results.protocols[0]
    costs = cost_of(results, protocol)
    score = mean_by(results.scores(protocol=protocol), "method")
    complete = results.complete(protocol=protocol)  # a mean of other tasks has no place beside them
    names = [name for name in _shown(results) if name in costs.index and name in complete]
    return pd.DataFrame(
        {
            "title": [results.title(name) for name in names],
            "kind": [results.kind(name) for name in names],
            "seconds": costs["seconds_per_1000"].reindex(names).to_numpy(),
            "score": score.reindex(names).to_numpy(),
        }
    )


def _with_all_levels(table: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of the datasets that have each level, so that a line is of the same."""
    levels = table.groupby("dataset")["number"].nunique()
    return table[table["dataset"].isin(levels.index[levels == levels.max()])]


def _panels(results: Results) -> dict[str, pd.DataFrame]:
    """Return scores by level, shape (levels, methods), of what has two levels or more."""
    found = {}
    for (protocol, unit), title in PANELS.items():
        table = results.scores(protocol=protocol)
        parts = table["level"].str.extract(LEVEL)
        table = table.assign(number=pd.to_numeric(parts[0]), unit=parts[1])
        table = _with_all_levels(table[table["unit"] == unit])
        means = table.groupby(["number", "method"])["score"].agg(lambda one: one.mean(skipna=False))
        grid = means.unstack()
        if len(grid) >= FEWEST_LEVELS:
            grid.index = pd.Index([f"{number:g}" for number in grid.index])
            asked = [name for name in _shown(results) if name in grid]
            found[title] = grid[asked].rename(columns=results.title)
    return found
