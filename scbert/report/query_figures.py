"""The figure of an annotated file."""

from collections.abc import Sequence
from dataclasses import dataclass

from scbert.report.dataset_figures import LEGEND_MARKER, RING, draw_types
from scbert.report.style import VECTOR_POINTS, WIDTH, Figure, svg_figure

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
    """Draw cells by their label; unknown ones are ringed.

    Parameters
    ----------
    types
        The labels to tell apart, the most frequent first; of the others only the rings are drawn.
    """
    shown = types[:MOST_TYPES]
    figure = Figure(figsize=(WIDTH, max(3.9, 0.19 * len(shown) + 1.0)), layout="constrained")
    axes = figure.subplots()
    image = len(cells) > VECTOR_POINTS
    draw_types(axes, cells, "label", shown, image=image)
    unknown = [cell for cell in cells if cell.is_unknown]
    axes.plot(
        [cell.x for cell in unknown],
        [cell.y for cell in unknown],
        "o",
        **RING | {"markersize": 4 if image else RING["markersize"]},
        label="unknown",
        rasterized=image,
    )
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    legend = figure.legend(loc="outside right center")
    for handle in filter(None, legend.legend_handles):
        handle.set(markersize=LEGEND_MARKER)
    return figure
