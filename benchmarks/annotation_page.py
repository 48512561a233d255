"""The page of the accuracy benchmark, from the folders that benchmarks/annotation.py wrote.

Run: python benchmarks/annotation_page.py DATA FOLDER ... (writes docs/results/annotation.md, .svg)
"""

import argparse
import json
import textwrap
from pathlib import Path

import numpy as np
import yaml
from annotation_table import HEAD, TaskScores, score_tasks, section
from matplotlib.figure import Figure

from scbert.config import default_config_file, load_config
from scbert.evidence.figures import BLUE, MUTED, ORANGE, VERMILION, svg_figure
from scbert.evidence.intervals import with_interval

SHOWN = {  # method: its name, colour and marker in the figure
    "scbert": ("scBERT", BLUE, "o"),
    "scbert, encoder half": ("its encoder half alone", ORANGE, "s"),
    "scbert, expression half": ("its linear half alone", VERMILION, "D"),
    "logistic_regression": ("logistic regression", MUTED, "^"),
    "linear_svm": ("linear SVM", MUTED, "v"),
}
TITLES = {
    "pbmc68k_reduced": "pbmc68k_reduced, folds",
    "pbmc3k": "pbmc3k, folds",
    "pbmc3k_to_pbmc8k": "pbmc3k to pbmc8k",
    "kang": "Kang, a donor left out",
    "panc8": "panc8, a laboratory left out",
}
INTRODUCTION = """# Annotation: accuracy on held-out cells, donors, laboratories and studies

    make bench-annotation DATA=FOLDER PRETRAINED=MODEL

Written by that command; do not edit. The encoder: benchmarks/pool_small.yaml (width 64, 2 layers,
`network.qk_rms: 0.5`), pretrained on 4,455 blood cells of studies that are none of these, in eleven
minutes on one core; skill over the additive predictor 0.113 (0.106 to 0.119). Fine-tuning: the
default hybrid head, all weights, one thread; benchmarks/annotation.yaml (pbmc3k, to pbmc8k),
annotation_kang.yaml, annotation_panc8.yaml (with the genes that an encoder of blood does not know),
config/config.yaml (pbmc68k_reduced).
"""


def summary(found: list[TaskScores]) -> str:
    """Return a line for each task: scBERT beside the logistic regression of the same run."""
    lines = [
        "| data | folds | seeds | scBERT: accuracy | macro F1 | logistic regression: accuracy "
        "| macro F1 | difference of macro F1 |",
        "|---|---:|---:|---|---|---|---|---|",
    ]
    for task in found:
        ours, theirs = task.methods["scbert"], task.methods["logistic_regression"]
        difference = ours["against"]["logistic_regression"]
        lines.append(
            f"| {TITLES[task.task]} | {task.n_folds[0]} of {task.n_folds[1]} | {len(task.seeds)} "
            f"| {ours['accuracy']['mean']:.3f} | {ours['macro_f1']['mean']:.3f} "
            f"| {theirs['accuracy']['mean']:.3f} | {theirs['macro_f1']['mean']:.3f} "
            f"| {with_interval(difference['mean'], difference, '+')} |"
        )
    return "\n".join(lines) + "\n\n![Macro F1 of each method](annotation.svg)\n"


@svg_figure
def draw(found: list[TaskScores]) -> Figure:
    """Draw macro F1 with its interval, a group of rows for each task."""
    figure = Figure(figsize=(7.6, 0.4 + 0.95 * len(found)), layout="constrained")
    axes = figure.subplots()
    for row, task in enumerate(found):
        offsets = np.linspace(-0.3, 0.3, len(SHOWN))
        for offset, (method, (name, colour, marker)) in zip(offsets, SHOWN.items(), strict=True):
            score = task.methods[method]["macro_f1"]
            ends = [[score["mean"] - score["low"]], [score["high"] - score["mean"]]]
            label = name if row == 0 else None
            axes.errorbar(
                score["mean"],
                row + offset,
                xerr=np.maximum(ends, 0),
                color=colour,
                fmt=marker,
                label=label,
            )
    axes.set_yticks(range(len(found)), [TITLES[task.task] for task in found])
    axes.invert_yaxis()
    axes.set_xlabel("macro F1 on cells that were held out, with 95 % interval")
    axes.grid(visible=True, axis="x")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def main() -> None:
    """Score what is there, and write the page and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--note", default="", help="what else a reader must know of these runs")
    options = parser.parse_args()
    settings = load_config(yaml.safe_load(default_config_file().read_text())).evaluate
    found: list[TaskScores] = []
    for folder in options.folders:
        lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
        found += score_tasks(folder, lines, options.data, settings)
    found.sort(key=lambda task: list(TITLES).index(task.task))
    head = HEAD.format(level=settings.confidence_level, samples=settings.bootstrap_samples)
    note = textwrap.fill(options.note, 100) + "\n"
    parts = [INTRODUCTION, note, summary(found), head, *map(section, found)]
    (options.out / "annotation.md").write_text("\n".join(parts))
    (options.out / "annotation.svg").write_text(draw(found))


if __name__ == "__main__":
    main()
