"""Figures of an explanation: which genes mark which type, and what removing them does."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scbert.explain.deletion import ALL, CONTROL
from scbert.explain.rankings import Ranking
from scbert.report.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    VERMILION,
    WIDTH,
    Axes,
    Figure,
    colour_bar,
    label_squares,
    short_name,
    svg_figure,
)

COLOURS = {"passes": BLUE, "fails": VERMILION, "control": INK}


@svg_figure
def draw_heat_map(
    ranking: Ranking, types: Sequence[str], symbols: np.ndarray, n_genes: int, title: str
) -> Figure:
    """Draw the z-scores of the best genes of each type (rows) in all types (columns).

    Colour runs from purple (below the mean of the types) to orange; a dot marks the type that the
    gene was chosen for.
    """
    chosen: dict[int, int] = {}
    for number in range(len(types)):
        for gene in ranking.top(number, n_genes).tolist():
            chosen.setdefault(gene, number)
    genes = list(chosen)
    limit = max(1.0, np.sqrt(max(1, len(types) - 1)))
    size = (3.6 + 0.42 * len(types), 2.4 + 0.19 * len(genes))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    squares = axes.pcolormesh(
        ranking.z[:, genes].T, cmap="PuOr_r", vmin=-limit, vmax=limit, edgecolors="white"
    )
    own = np.array([chosen[gene] for gene in genes])
    axes.plot(own + 0.5, np.arange(len(genes)) + 0.5, ".", color=INK, markersize=3.5)
    names = [short_name(name) for name in types]
    label_squares(axes, names, symbols[genes].tolist(), size=8, style="italic")
    axes.set_title(title)
    across = "z-score across cell types"
    colour_bar(figure, axes, squares, across, shrink=0.5, aspect=24, pad=0.04)
    return figure


@svg_figure
def draw_deletion(judged: pd.DataFrame, titles: dict[str, str], level: float) -> Figure:
    """Draw how far the probability of the label falls, a panel for each method.

    Parameters
    ----------
    judged
        What `judge_deletions` returns.
    """
    of_all = judged[judged.cell_type == ALL]
    methods = of_all.method.unique().tolist()
    figure = Figure(figsize=(WIDTH, 2.9 * ((len(methods) + 1) // 2)), layout="constrained")
    panels = figure.subplots((len(methods) + 1) // 2, 2, sharey=True, squeeze=False).ravel()
    for axes, method in zip(panels, methods, strict=False):
        found = of_all[of_all.method == method]
        verdict = found[found.genes == "mean"].verdict.iloc[0]
        _draw_falls(axes, _ascending(found), COLOURS[verdict])
        if method != CONTROL:
            control = _ascending(of_all[of_all.method == CONTROL])
            axes.plot(control.top, ":", color=INK, linewidth=1.4, label="control without a model")
        axes.set_title(f"{titles[method]}: {verdict}", loc="left")
    for axes in panels[len(methods) :]:
        axes.set_axis_off()
    panels[0].set_ylabel("fall of the label's probability")
    panels[0].legend(loc="upper left", fontsize=8)
    figure.supxlabel(
        f"genes removed from each cell; band: {level:.0%} interval of the difference to random",
        size=9,
        color=MUTED,
    )
    return figure


def _ascending(found: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of numbers of genes, the smallest first, numbered from 0."""
    sizes = found[found.genes != "mean"]
    return sizes.sort_values("genes", key=lambda genes: genes.astype(int), ignore_index=True)


def _draw_falls(axes: Axes, found: pd.DataFrame, colour: str) -> None:
    places, random = found.index.to_numpy(), found.random.to_numpy()
    axes.fill_between(
        places, random + found.low, random + found.high, color=colour, alpha=0.18, linewidth=0
    )
    axes.plot(places, found.top, "o-", color=colour, markersize=5, label="top genes of the type")
    axes.plot(places, random, "s--", color=MUTED, markersize=4, label="random genes, same bins")
    labels = [
        f"{size}\n({cells})" if cells != found.cells.max() else f"{size}"
        for size, cells in zip(found.genes, found.cells, strict=True)
    ]
    axes.set_xticks(places, labels)
    axes.axhline(0, color=FAINT, linewidth=1, zorder=0)
