"""The house style of every figure, and the door to matplotlib."""

import io
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

Arguments = ParamSpec("Arguments")
INK, MUTED, FAINT = "#1f2a35", "#75818d", "#dde3e8"
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW = "#CC79A7", "#56B4E9", "#B8A800"  # yellow darkened: F0E442 vanishes on white
TYPE_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW)
TYPE_SHAPES = ("o", "^", "s", "D", "v")  # 7 colours and 5 shapes: 35 different pairs
LEGEND_MARKER = 8.5  # points
WIDTH = 8.4  # inches; the column of the report
VECTOR_POINTS = 500  # more points than this are drawn as an image, which keeps the file light
LAYOUT_FONT = "DejaVu Sans"  # ships with matplotlib: the same layout on every machine
SHOWN_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
STYLE: dict[str, Any] = {
    "font.family": LAYOUT_FONT,
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a cell type may hold a dollar sign
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "savefig.dpi": 150,  # of the layers that are images
    "svg.fonttype": "none",  # text stays text: searchable, readable aloud, and light
}


__all__ = [
    "Axes",
    "Figure",
    "Line2D",
    "colour_bar",
    "draw_types",
    "epoch_axis",
    "label_ends",
    "label_squares",
    "log_axis",
    "short_count",
    "short_name",
    "svg_figure",
]


def svg_figure(draw: Callable[Arguments, Figure]) -> Callable[Arguments, str]:
    """Let a function that draws a figure return it as SVG text, in the house style.

    The same arguments give the same bytes: there is no date, and ids come from the content and the
    function's name. Text is laid out with a wide font and shown with the reader's own, which is
    narrower, so that nothing overlaps.
    """

    @wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> str:
        buffer = io.StringIO()
        style: Any = STYLE | {"svg.hashsalt": draw.__name__}
        with mpl.rc_context(style):
            figure = draw(*args, **kwargs)
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue().replace(f"'{LAYOUT_FONT}'", SHOWN_FONT)

    return drawn


def short_name(name: str, longest: int = 30) -> str:
    """Shorten a name in its middle: types of one family often differ only at the end."""
    name = "".join(letter for letter in " ".join(name.split()) if letter.isprintable())
    if len(name) <= longest:
        return name
    tail = longest // 3
    return f"{name[: longest - tail - 1].rstrip()}…{name[-tail:].lstrip()}"


def short_count(n: int) -> str:
    """Write a count in few characters: 950, 9500, 95k."""
    return f"{n}" if n < 10_000 else f"{n / 1000:.0f}k"


def epoch_axis(axes: Axes, epochs: Sequence[int]) -> None:
    """Give the horizontal axis whole epochs, also where there is only one."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)


def log_axis(axes: Axes, label: str) -> None:
    """Give the horizontal axis a logarithmic scale with plain numbers."""
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def label_squares(axes: Axes, columns: Sequence[str], rows: Sequence[str], **look: Any) -> None:
    """Name the columns and rows of squares, the first row on top; `look` is that of rows."""
    ticks = [number + 0.5 for number in range(len(columns))]
    axes.set_xticks(ticks, columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks([number + 0.5 for number in range(len(rows))], rows, **look)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def colour_bar(figure: Figure, axes: Axes, squares: Any, label: str, **size: Any) -> None:
    """Say beside a panel what the colours of its squares mean."""
    bar = figure.colorbar(squares, ax=axes, **size)
    bar.set_label(label)
    bar.ax.spines[:].set_visible(False)


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], gap: float) -> None:
    """Name lines at the right edge of a panel: at their height, but at least `gap` apart.

    `ends` holds (height, name, colour); `gap` is a share of the panel's height.
    """
    bottom, top = axes.get_ylim()
    ends = sorted(ends)
    heights = [(end[0] - bottom) / (top - bottom) for end in ends]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    for i in reversed(range(len(heights))):
        ceiling = heights[i + 1] - gap if i + 1 < len(heights) else 1 - gap / 3
        heights[i] = min(heights[i], ceiling)
    for height, (_, name, colour) in zip(heights, ends, strict=True):
        axes.text(1.02, height, name, color=colour, va="center", transform=axes.transAxes)


def draw_types(
    axes: Axes, cells: Sequence[Any], key: str, types: Sequence[str], *, image: bool
) -> None:
    """Draw cells, at x and y, in a colour and shape for each type, which is their `key`."""
    for i, cell_type in enumerate(types):
        shown = [cell for cell in cells if getattr(cell, key) == cell_type]
        axes.plot(
            [cell.x for cell in shown],
            [cell.y for cell in shown],
            TYPE_SHAPES[i % len(TYPE_SHAPES)],
            color=TYPE_COLOURS[i % len(TYPE_COLOURS)],
            markersize=3 if image else 5,
            markeredgecolor="white",
            markeredgewidth=0.2 if image else 0.4,
            label=short_name(cell_type),
            rasterized=image,
        )
