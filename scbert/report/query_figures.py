"""The figure of an annotated file."""

from collections.abc import Sequence
from dataclasses import dataclass

from scbert.report.dataset_figures import LEGEND_MARKER, draw_types
from scbert.report.style import FAINT, VECTOR_POINTS, VERMILION, WIDTH, Figure, svg_figure

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
