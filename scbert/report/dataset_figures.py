"""The figures of one labelled dataset.

Each function takes what the evaluate and compare steps wrote and returns SVG text; no score is
computed here.
"""

from collections.abc import Sequence

import numpy as np

from scbert.calibration.fitted import ModelCalibration
from scbert.evidence.bootstrap import Interval
from scbert.evidence.comparison import Comparison
from scbert.evidence.evaluation import Evaluation, ModelScores
from scbert.evidence.history import FinetuningEpoch, best_epoch
from scbert.experts.titles import EXPERT_TITLES
from scbert.report.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    LEGEND_MARKER,
    MUTED,
    ORANGE,
    SKY,
    VECTOR_POINTS,
    WIDTH,
    Axes,
    Figure,
    colour_bar,
    draw_types,
    epoch_axis,
    label_ends,
    label_squares,
    short_count,
    short_name,
    svg_figure,
)
from scbert.report.text import METRICS

KIND_COLOURS = {"model": BLUE, "expert": SKY, "baseline": INK, "control": MUTED}


@svg_figure
def draw_scores(comparison: Comparison) -> Figure:
    """Draw accuracy, macro F1 and balanced accuracy of every method with their intervals."""
    methods = comparison.by_kind
    figure = Figure(figsize=(WIDTH, 1.0 + 0.38 * len(methods)), layout="constrained")
    panels = figure.subplots(1, len(METRICS), sharey=True)
    for axes, (metric, title) in zip(panels, METRICS.items(), strict=True):
        for row, method in enumerate(methods):
            _draw_interval(axes, row, method.metric(metric), method.kind)
        axes.set_title(title)
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(-0.05, 1.05)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    panels[0].set_yticks(range(len(methods)), [short_name(method.title) for method in methods])
    panels[0].set_ylim(len(methods) - 0.5, -0.75)
    for label, method in zip(panels[0].get_yticklabels(), methods, strict=True):
        label.set_color(KIND_COLOURS[method.kind])
        label.set_fontweight("bold" if method.kind == "model" else "normal")
    return figure


def _draw_interval(axes: Axes, row: int, score: Interval, kind: str) -> None:
    colour = KIND_COLOURS[kind]
    axes.plot([score.low, score.high], [row, row], color=colour, linewidth=1.8)
    fill = "white" if kind == "control" else colour
    axes.plot(score.mean, row, "o", color=colour, markerfacecolor=fill, markersize=6)
    axes.annotate(
        f"{score.mean:.3f}",
        (score.mean, row),
        (0, 5.5),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=colour,
        fontweight="bold" if kind == "model" else "normal",
    )
    if kind == "model":
        axes.axvline(score.mean, color=BLUE, linewidth=0.8, alpha=0.4, zorder=0)


@svg_figure
def draw_confusion(found: ModelScores) -> Figure:
    """Draw the confusion matrix: colour is the share of a true type, numbers are cells."""
    names = [short_name(name) for name in found.classes]
    cells = np.array(found.confusion)
    share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    side = (0.42 if len(names) <= 12 else 0.36) * len(names)
    figure = Figure(figsize=(max(side + 3.6, 5.0), max(side + 2.2, 3.4)), layout="constrained")
    axes = figure.subplots()
    squares = axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors=FAINT, linewidth=0.7)
    for row, column in np.argwhere(cells > 0):
        colour = "white" if share[row, column] > 0.55 else INK
        number = short_count(int(cells[row, column]))
        axes.text(column + 0.5, row + 0.5, number, ha="center", va="center", color=colour, size=8)
    label_squares(axes, names, names)
    axes.set(xlabel="scBERT's label", ylabel="true type", aspect="equal")
    share_of = "share of the true type's cells"
    colour_bar(figure, axes, squares, share_of, shrink=0.6, aspect=22, pad=0.03)
    return figure


@svg_figure
def draw_per_type(found: ModelScores) -> Figure:
    """Draw precision, recall and F1 of each type, the type with the most test cells on top."""
    rows = sorted(found.per_type, key=lambda row: -row.support)
    figure = Figure(figsize=(WIDTH, 1.1 + 0.33 * len(rows)), layout="constrained")
    axes = figure.subplots()
    looks = {"precision": (">", ORANGE, 9), "recall": ("s", GREEN, 9), "f1": ("o", BLUE, 6)}
    for metric, (shape, colour, size) in looks.items():
        axes.plot(
            [getattr(row, metric) for row in rows],
            range(len(rows)),
            shape,
            color=colour,
            markersize=size,
            markerfacecolor=colour if metric == "f1" else "none",  # equal scores stay visible
            markeredgewidth=1.6,
            label="F1" if metric == "f1" else metric,
            clip_on=False,
        )
    labels = [f"{short_name(row.cell_type)}  (n = {row.support:,})" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set(xlim=(-0.01, 1.01), ylim=(len(rows) - 0.5, -0.5))
    axes.grid()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, handletextpad=0.2)
    return figure


@svg_figure
def draw_finetuning(histories: Sequence[Sequence[FinetuningEpoch]]) -> Figure:
    """Draw loss and macro F1 per epoch, one thin line for each seed."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    epochs = [line.epoch for history in histories for line in history]
    for axes, title in ((losses, "Loss (nats per cell)"), (scores, "Macro F1 of validation cells")):
        axes.set_title(title)
        axes.grid(axis="y")
        epoch_axis(axes, epochs)
    ends = {
        "training": _draw_seeds(losses, histories, "train_loss", ORANGE),
        "validation": _draw_seeds(losses, histories, "validation_loss", BLUE),
    }
    last = _draw_seeds(scores, histories, "validation_macro_f1", BLUE)
    for history in histories:
        best = best_epoch(history)
        scores.plot(best.epoch, best.validation_macro_f1, "o", color=BLUE, markersize=6)
    losses.set_ylim(bottom=0)
    scores.set_ylim(0, 1)
    colours = {"training": "#9a6a00", "validation": BLUE}  # orange, darkened to be readable as text
    label_ends(losses, [(end, name, colours[name]) for name, end in ends.items()], gap=0.1)
    label_ends(scores, [(last, "one line\nper seed;\ndot: highest", BLUE)], gap=0.1)
    return figure


@svg_figure
def draw_experts(calibrations: Sequence[ModelCalibration]) -> Figure:
    """Draw what each expert is worth out of fold, and its weight; a dot for each seed."""
    names = list(calibrations[0]["experts"])
    rows = [*names, "together"] if len(names) > 1 else names
    figure = Figure(figsize=(WIDTH, 1.0 + 0.34 * len(rows)), layout="constrained")
    scores, weights = figure.subplots(1, 2, sharey=True)
    for found in calibrations:
        experts = found["experts"]
        each = [experts[name]["macro_f1"] for name in names]
        scores.plot(each, range(len(names)), "o", color=INK, markersize=6, alpha=0.85)
        weights.plot(
            [experts[name]["weight"] for name in names],
            range(len(names)),
            "o",
            color=BLUE,
            markersize=6,
            alpha=0.85,
        )
        if len(names) > 1:
            joint = found["out_of_fold"]["macro_f1"]
            scores.plot(joint, len(names), "o", color=BLUE, markersize=7)
    titles = ("Macro F1, held-out cells", "Weight")
    for axes, title in zip((scores, weights), titles, strict=True):
        axes.set_title(title)
        axes.grid(axis="x")
        axes.set_xlim(-0.03, 1.03)
    scores.set_yticks(range(len(rows)), [EXPERT_TITLES.get(name, name) for name in rows])
    scores.invert_yaxis()
    return figure


def _draw_seeds(
    axes: Axes, histories: Sequence[Sequence[FinetuningEpoch]], key: str, colour: str
) -> float:
    """Draw one line for each seed and return where the first ends, the place for a label."""
    for history in histories:
        axes.plot(
            [line.epoch for line in history],
            [getattr(line, key) for line in history],
            color=colour,
            linewidth=1.1,
            alpha=0.85,
            marker=".",
            markersize=3.5,
        )
    return float(getattr(histories[0][-1], key))


@svg_figure
def draw_umap(evaluation: Evaluation) -> Figure:
    """Draw the test cells by true type and by scBERT's label; wrong labels are ringed."""
    cells, classes = evaluation.embedding, evaluation.scbert.classes
    found = {name for cell in cells for name in (cell.true, cell.predicted)}
    types = [*classes, *sorted(found.difference(classes))]
    height = max(3.9, 0.19 * len(types) + 1.0)
    figure = Figure(figsize=(WIDTH + 1.2, height), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    image = len(cells) > VECTOR_POINTS
    for axes, key in zip(panels, ("true", "predicted"), strict=True):
        draw_types(axes, cells, key, types, image=image)
        axes.set(xlabel="UMAP 1", xticks=[], yticks=[])
    panels[0].set(title="True type", ylabel="UMAP 2")
    panels[1].set_title("scBERT's label")
    wrong = [(cell.x, cell.y) for cell in cells if cell.true != cell.predicted]
    places = np.array(wrong).reshape(-1, 2).T
    (rings,) = panels[1].plot(
        *places,
        "o",
        markersize=8.5,
        color=INK,
        markerfacecolor="none",
        label="wrong label",
        rasterized=image,
    )
    handles, _ = panels[0].get_legend_handles_labels()
    legend = figure.legend(handles=[*handles, rings], loc="outside right center")
    for handle in filter(None, legend.legend_handles):
        handle.set(markersize=LEGEND_MARKER)  # those of many cells are too small to tell shapes
    return figure
