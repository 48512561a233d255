"""The figures of the corpus: tokens, gene vectors and pretraining.

Each function takes what an earlier step wrote and returns SVG text.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scbert.evidence.figures import (
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
    epoch_axis,
    label_ends,
    svg_figure,
)

Json = dict[str, Any]
Look = tuple[str, str, float]  # colour, shape, size in points
Box = tuple[float, float, float, float]  # left, bottom, right, top; points

# Genes that name a blood cell type or a programme to anyone in the field.
MARKERS: Mapping[str, tuple[Look, tuple[str, ...]]] = {
    "T cells": ((BLUE, "o", 7), ("CD3D", "CD3E", "CD8A", "IL7R")),
    "B cells": ((ORANGE, "s", 7), ("MS4A1", "CD79A", "CD79B")),
    "NK cells": ((GREEN, "^", 8), ("NKG7", "GNLY", "KLRD1")),
    "Monocytes": ((VERMILION, "D", 7), ("LYZ", "CD14", "S100A8", "S100A9", "FCGR3A")),
    "Dendritic cells": ((PURPLE, "v", 8), ("FCER1A", "CST3", "HLA-DRA")),
    "Platelets": ((SKY, "P", 8), ("PPBP", "PF4")),
    "Cell cycle": ((YELLOW, "X", 8), ("MKI67", "TOP2A")),
}
# Families too large to be labelled gene by gene, as patterns of their symbols.
FAMILIES: Mapping[str, tuple[Look, str]] = {
    "Ribosomal (RPL, RPS)": ((INK, "s", 3.5), r"^RP[LS]\d+"),
    "Mitochondrial (MT-)": (("#8c510a", "^", 4.5), r"^MT-"),
}
OTHERS: Look = ("#c3ccd4", ".", 3.5)
HALO = {"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
PREDICTORS = (
    ("cell_mode", "cell's most\ncommon bin", (5, 2)),
    ("gene_mode", "gene's most\ncommon bin", (1, 2)),
    ("additive", "cell + gene\n(additive)", (5, 2, 1, 2)),
)


class GeneLabel(NamedTuple):
    """A gene's name to be written beside its dot."""

    symbol: str
    x: float
    y: float
    colour: str


@svg_figure
def draw_tokens(store: Json) -> Figure:
    """Draw how the expressed genes of a token store fall into bins."""
    bins = sorted((int(name), n) for name, n in store["bins"].items())
    total = max(sum(n for _, n in bins), 1)
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    axes = figure.subplots()
    shares = [100 * n / total for _, n in bins]
    bars = axes.bar(range(len(bins)), shares, width=0.72, color=BLUE)
    for bar, (number, _) in zip(bars, bins, strict=True):
        if number == 0:
            bar.set(facecolor="white", edgecolor=MUTED, hatch="////", linewidth=0.8)
    axes.bar_label(bars, [f"{share:.1f} %" for share in shares], padding=3)
    axes.set_xticks(range(len(bins)), [_bin_name(number, bins[-1][0]) for number, _ in bins])
    axes.set(xlabel="log2(1 + counts per 10,000)", ylabel="% of the expressed genes")
    axes.margins(y=0.15)
    axes.tick_params(axis="x", length=0)
    return figure


def _bin_name(number: int, last: int) -> str:
    if number == 0:
        return "bin 0\nbelow 1\nnot seen by the model"
    return f"bin {number}\n" + (
        f"{number} or more" if number == last else f"{number} to {number + 1}"
    )


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


def _draw_genes(axes: Axes, genes: pd.DataFrame, name: str, look: Look) -> Line2D:
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
def draw_pretraining(history: Sequence[Json], validation: Json) -> Figure:
    """Draw masked loss and accuracy per epoch beside three predictors that need no network."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    epochs = [line["epoch"] for line in history]
    curves = (
        (losses, "train_loss", "training\ncells", "#9a6a00"),
        (losses, "validation_loss", "held-out\ncells", BLUE),
        (accuracies, "validation_accuracy", "held-out\ncells", BLUE),
    )
    ends: dict[Axes, list[tuple[float, str, str]]] = {losses: [], accuracies: []}
    for axes, key, name, colour in curves:
        values = [line[key] for line in history]
        axes.plot(epochs, values, "o-", color=colour, linewidth=1.6, markersize=3.5)
        ends[axes].append((values[-1], name, colour))
    for axes, metric in ((losses, "loss"), (accuracies, "accuracy")):
        for key, name, dashes in PREDICTORS:
            height = validation["predictors"][key][metric]
            axes.axhline(height, color=MUTED, linewidth=1.1, linestyle=(0, dashes))
            ends[axes].append((height, name, MUTED))
    for axes, title in (
        (losses, "Loss (nats per masked gene)"),
        (accuracies, "Accuracy on masked genes"),
    ):
        axes.set_title(title)
        axes.grid(axis="y")
        epoch_axis(axes, epochs)
        axes.margins(y=0.12)
        label_ends(axes, ends[axes], gap=0.17)
    return figure
