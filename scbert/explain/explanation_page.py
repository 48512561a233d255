"""The page that ties an explanation's tables and figures together, for people."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scbert.evidence.explained import Explained
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
from scbert.report.text import NOTHING, difference_with_interval, plain, table

COLOURS = {"passes": BLUE, "fails": VERMILION, "control": INK}


def write_page(about: Explained, genes: pd.DataFrame, markers: pd.DataFrame) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    about
        What stands in explanation.json.
    genes
        The table of genes.
    markers
        The table of markers; it may be empty.
    """
    parts = [
        f"# Genes behind each cell type: {about.name}",
        f"{sum(about.cells.values())} cells of {len(about.cells)} types "
        f"({about.labels_from}), model `{about.model_sha256[:12]}`.",
        "## Which method can be believed",
        "\n".join(f"- {line}" for line in about.verdicts),
        "![Fall of the label's probability](deletion.svg)",
        "A method that asks the model passes if, averaged over all numbers of genes, removing the "
        "top genes of a cell's type lowers the probability of its label more than removing other "
        "genes that it expresses, of the same bins, and more than removing the top genes of the "
        "control without a model, both with the whole interval above 0. Each cell is tested with a "
        "ranking that comes from other cells. All numbers: deletion.tsv.",
        _table_of_verdicts(about),
        "## Genes of each type",
        _table_of_types(about, genes),
        "A z-score across types is highest for genes that the other types hardly express, however "
        "little they add; the mean says how much a gene adds, whichever types express it.",
        "![Integrated gradients, by mean](heatmap.svg)",
        "![Attention sums](attention.svg)",
        "All ranked genes, by every method, with scores, z-scores across types and ranks: "
        "genes.tsv.",
        "## Known markers",
        _found(about),
        _markers(markers),
        "## Gene sets",
        "The ten sets with the smallest p of each type and method are in gene_sets.tsv; adjusted_p "
        "(Benjamini and Hochberg) counts all sets and types of a method."
        if about.gene_sets
        else "No gene sets were given.",
        "## What to keep in mind",
        "\n".join(f"- {note}" for note in about.notes),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _table_of_verdicts(about: Explained) -> str:
    rows = []
    for method, one in about.methods.items():
        found = one.deletion
        over_control = difference_with_interval(found.over_top_of_control)
        rows.append(
            (
                one.title,
                f"{found.top:.3f}",
                f"{found.random:.3f}",
                difference_with_interval(found.over_random),
                NOTHING if method == CONTROL else over_control,
                found.verdict,
            )
        )
    header = ("genes ranked by", "fall, top genes", "fall, random genes", "top less random")
    return table((*header, "top less the control's top", "verdict"), rows)


def _table_of_types(about: Explained, genes: pd.DataFrame) -> str:
    methods = list(about.methods)
    rows = []
    for name, of_type in genes.groupby("cell_type", sort=False):
        best = []
        for method in methods:
            ranked = of_type[of_type[f"{method}_rank"].between(1, 8)]
            best.append(" ".join(ranked.sort_values(f"{method}_rank").gene))
        rows.append((plain(name), str(about.cells[str(name)]), *best))
    return table(("cell type", "cells", *(about.methods[m].title for m in methods)), rows)


def _found(about: Explained) -> str:
    if not about.markers_found:
        return "No list of markers was given."
    rows = [
        (
            about.methods[one.method].title,
            f"{one.own} of {one.named}",
            f"{one.any} of {one.types}",
        )
        for one in about.markers_found
    ]
    header = ("genes ranked by", "types whose own markers are found", "types with any type's")
    limit = 1 - about.settings["confidence_level"]
    return (
        f"{table(header, rows)}\n\nFound: more of a list among the top "
        f"{about.settings['top_genes']} genes than by chance, adjusted p up to {limit:.2g}. A "
        "type's own list is that of its name or, if that is not there, of the last words of its "
        "name (CD8 T: T cells). Of lists by another name only the best is shown."
    )


def _markers(markers: pd.DataFrame) -> str:
    rows = [
        (
            plain(row["cell_type"]),
            row["method"],
            plain(row["gene_set"]),
            row["matched_by"],
            f"{row['overlap']} of {row['set_genes']}",
            f"{row['adjusted_p']:.1e}",
            row["genes"],
        )
        for row in markers.to_dict("records")
    ]
    header = ("cell type", "method", "compared with", "by", "overlap", "adjusted p", "genes")
    return table(header, rows) if rows else ""


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
