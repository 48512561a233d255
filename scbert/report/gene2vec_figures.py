"""The figures of the gene vectors: their map, and what they know beside other vectors.

Each function takes what an earlier step wrote and returns SVG text.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from scbert.evidence.bootstrap import Interval
from scbert.evidence.vector_quality import VectorQuality
from scbert.report.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VECTOR_POINTS,
    VERMILION,
    WIDTH,
    YELLOW,
    Axes,
    Figure,
    Line2D,
    short_name,
    svg_figure,
)

PointStyle = tuple[str, str, float]  # colour, shape, size in points
Box = tuple[float, float, float, float]  # left, bottom, right, top; points
# Genes that name a blood cell type or a programme to anyone in the field.
MARKERS: Mapping[str, tuple[PointStyle, tuple[str, ...]]] = {
    "T cells": ((BLUE, "o", 7), ("CD3D", "CD3E", "CD8A", "IL7R")),
    "B cells": ((ORANGE, "s", 7), ("MS4A1", "CD79A", "CD79B")),
    "NK cells": ((GREEN, "^", 8), ("NKG7", "GNLY", "KLRD1")),
    "Monocytes": ((VERMILION, "D", 7), ("LYZ", "CD14", "S100A8", "S100A9", "FCGR3A")),
    "Dendritic cells": ((PURPLE, "v", 8), ("FCER1A", "CST3", "HLA-DRA")),
    "Platelets": ((SKY, "P", 8), ("PPBP", "PF4")),
    "Cell cycle": ((YELLOW, "X", 8), ("MKI67", "TOP2A")),
}
# Families too large to be labelled gene by gene, as patterns of their symbols.
FAMILIES: Mapping[str, tuple[PointStyle, str]] = {
    "Ribosomal (RPL, RPS)": ((INK, "s", 3.5), r"^RP[LS]\d+"),
    "Mitochondrial (MT-)": (("#8c510a", "^", 4.5), r"^MT-"),
}
OTHERS: PointStyle = ("#c3ccd4", ".", 3.5)
HALO = {"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
METHODS: Mapping[str, tuple[str, PointStyle]] = {
    "gene2vec": ("these vectors", (BLUE, "o", 7)),
    "svd": ("SVD of the same pairs", (ORANGE, "s", 6.5)),
    "skipgram": ("skip-gram on the same pairs", (ORANGE, "s", 6.5)),
    "random": ("random vectors", (MUTED, "D", 5.5)),
}


class GeneLabel(NamedTuple):
    """A gene's name to be written beside its dot."""

    symbol: str
    x: float
    y: float
    colour: str


@svg_figure
def draw_gene2vec(gene_map: pd.DataFrame) -> Figure:
    """Draw the map of the gene vectors with genes that anyone in the field knows.

    `gene_map` has the columns symbol, x and y.
    """
    figure = Figure(figsize=(WIDTH, 5.8))
    axes = figure.add_axes((0.01, 0.02, 0.68, 0.96))  # fixed, because labels are placed in points
    others = _draw_genes(axes, gene_map, "other genes", OTHERS)
    families = [
        _draw_genes(axes, gene_map[gene_map["symbol"].str.contains(pattern)], name, look)
        for name, (look, pattern) in FAMILIES.items()
    ]
    groups, labels = [], []
    for name, (look, symbols) in MARKERS.items():
        genes = gene_map[gene_map["symbol"].isin(symbols)]
        groups.append(_draw_genes(axes, genes, name, look))
        places = zip(genes["symbol"], genes["x"], genes["y"], strict=True)
        labels += [GeneLabel(symbol, x, y, look[0]) for symbol, x, y in places]
    axes.margins(0.06)
    axes.autoscale_view()  # now, because the labels are placed in the final limits
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    _write_beside(figure, axes, labels)
    figure.legend(
        handles=[*groups, *families, others],
        loc="center left",
        bbox_to_anchor=(0.7, 0.5),
        labelspacing=0.8,
        markerscale=1.2,
    )
    return figure


def _draw_genes(axes: Axes, genes: pd.DataFrame, name: str, look: PointStyle) -> Line2D:
    colour, shape, size = look
    (dots,) = axes.plot(
        genes["x"],
        genes["y"],
        shape,
        color=colour,
        markersize=size,
        markeredgecolor="white",
        markeredgewidth=0.7 if size > 5 else 0,
        label=name,
        rasterized=len(genes) > VECTOR_POINTS,
    )
    return dots


def _write_beside(figure: Figure, axes: Axes, labels: Sequence[GeneLabel]) -> None:
    """Write each name near its dot, where it covers no other name and no labelled dot."""
    points_per_pixel = 72 / figure.dpi
    places = np.array([(label.x, label.y) for label in labels]).reshape(-1, 2)
    dots = axes.transData.transform(places) * points_per_pixel
    left, right = axes.bbox.x0 * points_per_pixel, axes.bbox.x1 * points_per_pixel
    taken: list[Box] = [(-1e4, -1e4, left, 1e4), (right, -1e4, 1e4, 1e4)]
    taken += [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    for label, (x, y) in zip(labels, dots, strict=True):
        dx, dy, box = min(_candidates(x, y, label.symbol), key=lambda c: _overlap(c[2], taken))
        taken.append(box)
        line = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.6, "shrinkB": 4}
        axes.annotate(
            label.symbol,
            (label.x, label.y),
            (dx, dy),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8.5,
            fontstyle="italic",
            color=INK,
            bbox=HALO,
            arrowprops=line if abs(dy) > 14 else None,
        )


def _candidates(x: float, y: float, symbol: str) -> list[tuple[float, float, Box]]:
    """Return offsets of a text around a dot, the nearest first, with the box that it would fill."""
    width, height = 6.2 * len(symbol), 10.0
    found = []
    for radius in (6, 10, 16, 24, 34, 46, 60):
        for angle in np.arange(16) * math.pi / 8:
            dx = math.cos(angle) * (radius + width / 2)
            dy = math.sin(angle) * (radius + height / 2)
            box = (x + dx - width / 2, y + dy - height / 2, x + dx + width / 2, y + dy + height / 2)
            found.append((dx, dy, box))
    return found


def _overlap(box: Box, others: Sequence[Box]) -> float:
    return sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in others
    )


@svg_figure
def draw_gene2vec_quality(quality: VectorQuality) -> Figure:
    """Draw the AUC of each measure for each method, with intervals; a sentence if there is none."""
    taken = [measure for measure in quality.measures if measure.found.n]
    if not taken:
        figure = Figure(figsize=(WIDTH, 0.8))
        text = "Not measured: no gene sets and no labelled pairs of genes were given."
        figure.text(0.02, 0.5, text, va="center", color=MUTED)
        return figure
    figure = Figure(figsize=(WIDTH, 1.3 + 0.62 * len(taken)), layout="constrained")
    axes = figure.subplots()
    for row, measure in enumerate(reversed(taken)):
        for place, (method, found) in enumerate(measure.found.methods.items()):
            _draw_interval(axes, row + 0.2 - 0.2 * place, found.auc, method)
    names = [f"{short_name(measure.name, 34)}\n{measure.found.n:,}" for measure in reversed(taken)]
    axes.set_yticks(range(len(taken)), names)
    axes.set_ylim(-0.6, len(taken) - 0.4)
    axes.axvline(0.5, color=MUTED, linewidth=1.1, linestyle=(0, (5, 2)))
    axes.set_xlabel("AUC; 0.5 is chance")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    methods = [name for name in METHODS if name in taken[0].found.methods]
    handles = [_handle(name) for name in methods]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return figure


def _draw_interval(axes: Axes, height: float, found: Interval, method: str) -> None:
    colour, shape, size = METHODS[method][1]
    axes.plot([found.low, found.high], [height] * 2, color=colour, linewidth=2)
    axes.plot(found.mean, height, shape, color=colour, markersize=size, markeredgecolor="white")


def _handle(method: str) -> Line2D:
    name, (colour, shape, size) = METHODS[method]
    return Line2D([], [], color=colour, marker=shape, markersize=size, linewidth=2, label=name)
