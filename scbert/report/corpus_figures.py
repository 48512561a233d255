"""The figures of the corpus: tokens and pretraining.

Each function takes what an earlier step wrote and returns SVG text.
"""

from collections.abc import Sequence

from scbert.evidence.history import PretrainingEpoch
from scbert.evidence.pretraining_scores import PretrainingScores
from scbert.report.style import BLUE, MUTED, WIDTH, Axes, Figure, epoch_axis, label_ends, svg_figure
from scbert.tokens.store_files import StoreMeta

PREDICTORS = (
    ("cell_mode", "cell's most\ncommon bin", (5, 2)),
    ("gene_mode", "gene's most\ncommon bin", (1, 2)),
    ("additive", "cell + gene\n(additive)", (5, 2, 1, 2)),
)


@svg_figure
def draw_tokens(store: StoreMeta) -> Figure:
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
def draw_pretraining(history: Sequence[PretrainingEpoch], scores: PretrainingScores) -> Figure:
    """Draw masked loss and accuracy per epoch beside three predictors that need no network."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    epochs = [line.epoch for line in history]
    curves = (
        (losses, "train_loss", "training\ncells", "#9a6a00"),
        (losses, "validation_loss", "held-out\ncells", BLUE),
        (accuracies, "validation_accuracy", "held-out\ncells", BLUE),
    )
    ends: dict[Axes, list[tuple[float, str, str]]] = {losses: [], accuracies: []}
    for axes, key, name, colour in curves:
        values = [getattr(line, key) for line in history]
        axes.plot(epochs, values, "o-", color=colour, linewidth=1.6, markersize=3.5)
        ends[axes].append((values[-1], name, colour))
    for axes, metric in ((losses, "loss"), (accuracies, "accuracy")):
        for key, name, dashes in PREDICTORS:
            height = getattr(scores.predictors[key], metric)
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
