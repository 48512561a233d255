"""The critical-difference diagram: mean ranks, and bars over methods that do not differ."""

from collections.abc import Mapping

from scikit_posthocs import critical_difference_diagram

from scbert.benchmark.statistics import Ranking
from scbert.report.style import BLUE, INK, MUTED, WIDTH, Figure, short_name, svg_figure

ROW = 0.2  # inches for a name


@svg_figure
def draw_ranks(ranking: Ranking, titles: Mapping[str, str], first: str, level: float) -> Figure:
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
