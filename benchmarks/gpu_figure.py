"""The GPU page's figure: held-out loss and skill by epoch."""

from gpu_found import Results
from gpu_training import best_of

from scbert.report.style import BLUE, MUTED, VERMILION, Figure, epoch_axis, svg_figure

SIZE = (4.6, 5.4)  # inches: one panel below the other can be read on a phone
STYLES = {
    "E": ("paper's size, 65,536 tokens a batch", BLUE, "o"),
    "E2": ("small encoder, 32,768 tokens a batch", VERMILION, "s"),
}


@svg_figure
def draw_curves(results: Results) -> Figure:
    """Draw the two trainings that have the same held-out cells."""
    figure = Figure(figsize=SIZE, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for stage, (name, colour, marker) in STYLES.items():
        lines = results.epochs(stage)
        epochs = [line["epoch"] for line in lines]
        for axes, key in ((upper, "validation_loss"), (lower, "validation_skill")):
            axes.plot(
                epochs, [line[key] for line in lines], color=colour, marker=marker, label=name
            )
    best = best_of(results, "E")
    upper.axhline(best, color=MUTED, linestyle="--", label="best predictor without a network")
    lower.axhline(0, color=MUTED, linestyle="--")
    epoch_axis(lower, [line["epoch"] for line in results.epochs("E")])
    upper.set_title("Loss of hidden genes, held-out cells (nats)")
    lower.set_title("Skill over the best predictor")
    for axes in (upper, lower):
        axes.grid(visible=True)
    upper.legend(loc="upper right")
    return figure
