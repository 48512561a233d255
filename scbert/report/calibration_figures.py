"""Figures of confidence and novelty: accuracy without doubtful cells, and new types noticed."""

from collections.abc import Sequence

from scbert.calibration.fitted import Calibration
from scbert.calibration.novelty_threshold import UnknownScores
from scbert.evidence.evaluation import Reliability, Unknown
from scbert.report.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    ORANGE,
    VERMILION,
    WIDTH,
    Axes,
    Figure,
    short_count,
    short_name,
    svg_figure,
)

ORDERS = {"novelty": ("novelty score", BLUE, "-"), "confidence": ("confidence", ORANGE, "--")}
THRESHOLDS = {
    "calibrated": ("calibrated threshold", BLUE, "o"),
    "original": ("probability below 0.5", INK, "^"),
}


@svg_figure
def draw_reliability(found: Reliability) -> Figure:
    """Draw accuracy against confidence before and after temperature scaling, and cells per bin."""
    figure = Figure(figsize=(WIDTH, 4.3), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=[3, 1])
    shown = (("Before", found.before, MUTED), ("After", found.after, BLUE))
    for column, (when, curve, colour) in enumerate(shown):
        upper, lower = grid[0, column], grid[1, column]
        upper.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        confidence = [one.confidence for one in curve.bins]
        upper.plot(
            confidence, [one.accuracy for one in curve.bins], "o-", color=colour, linewidth=1.3
        )
        upper.set_title(f"{when} temperature scaling: ECE {curve.ece:.3f}")
        upper.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
        upper.grid()
        bars = lower.bar(confidence, [one.n for one in curve.bins], width=0.045, color=colour)
        lower.bar_label(bars, [short_count(one.n) for one in curve.bins], fontsize=8, padding=1.5)
        lower.margins(y=0.35)
        lower.set_xlabel("confidence")
    grid[0, 0].set_ylabel("share of labels that are right")
    grid[1, 0].set_ylabel("cells")
    grid[0, 0].annotate("perfect", (0.1, 0.1), (6, -8), textcoords="offset points", fontsize=8)
    return figure


@svg_figure
def draw_novelty(unknown: Unknown, calibrations: Sequence[Calibration]) -> Figure:
    """Draw accuracy against coverage, and for each known type how many cells would be noticed."""
    names = _types(calibrations)
    figure = Figure(figsize=(WIDTH, max(3.8, 1.6 + 0.26 * len(names))), layout="constrained")
    curves, detection = figure.subplots(1, 2, width_ratios=[1, 1])
    _draw_coverage(curves, unknown)
    _draw_detection(detection, unknown, calibrations, names)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _draw_coverage(axes: Axes, unknown: Unknown) -> None:
    for name, (label, colour, line) in ORDERS.items():
        for number, seed in enumerate(unknown.by_score):
            curve = seed[name].coverage_accuracy
            axes.plot(
                curve.coverage,
                curve.accuracy,
                linestyle=line,
                color=colour,
                linewidth=1.2,
                alpha=0.85,
                label=None if number else f"by {label}",
            )
    for name, (label, colour, shape) in THRESHOLDS.items():
        score: UnknownScores = getattr(unknown, name)
        if score.accuracy_of_accepted is not None and score.share_unknown is not None:
            axes.plot(
                1 - score.share_unknown,
                score.accuracy_of_accepted,
                shape,
                color=colour,
                markersize=9,
                markerfacecolor="none",
                markeredgewidth=1.8,
                label=label,
                clip_on=False,
                zorder=3,
            )
    axes.set_title("Accuracy of the cells that are labelled")
    axes.set(xlabel="share of cells labelled", ylabel="share of labels that are right")
    axes.set(xlim=(-0.02, 1.02), ylim=(None, 1.01))
    axes.grid()


def _draw_detection(
    axes: Axes, unknown: Unknown, calibrations: Sequence[Calibration], names: Sequence[str]
) -> None:
    for row, name in enumerate(names):
        found = [
            entry["detected"]
            for calibration in calibrations
            for entry in calibration["expected_novel_detection"]
            if entry["cell_type"] == name
        ]
        axes.plot([0, 1], [row, row], color=FAINT, linewidth=0.7, zorder=0)
        axes.plot(found, [row] * len(found), "o", color=BLUE, markersize=5, alpha=0.7)
    labels = [short_name(name) for name in names]
    detected = unknown.calibrated.novel_detected
    if detected is not None:
        axes.plot(detected, len(names), "D", color=VERMILION, markersize=7, clip_on=False)
        labels.append(f"new types in the test  (n = {unknown.novel_cells:,})")
    for rate in {calibration["false_unknown_rate"] for calibration in calibrations}:
        axes.axvline(rate, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlim=(-0.03, 1.03), ylim=(max(len(labels), 1) - 0.5, -0.5))
    axes.set_title("If a type were new")
    axes.set_xlabel("share called unknown; dashed: of known cells")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _types(calibrations: Sequence[Calibration]) -> list[str]:
    """Return every type that was left out, in the order of the labels."""
    return list(
        dict.fromkeys(
            entry["cell_type"]
            for calibration in calibrations
            for entry in calibration["expected_novel_detection"]
        )
    )
