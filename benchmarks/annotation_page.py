"""The page of the accuracy benchmark, from the folder that benchmarks/annotation.py wrote.

Run: python benchmarks/annotation_page.py FOLDER (writes docs/results/annotation.md and .svg)
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from annotation_tasks import TASKS
from matplotlib.figure import Figure

from scbert.calibration.confidence import expected_calibration_error, reliability
from scbert.config import Evaluate, default_config_file, load_config
from scbert.evidence.metrics import bootstrap_scores, paired_difference
from scbert.files import read_json
from scbert.report.style import BLUE, INK, MUTED, ORANGE, VERMILION, svg_figure
from scbert.report.text import with_interval
from scbert.tables import read_table

BASELINES = {
    "logistic_regression": "logistic regression",
    "linear_svm": "linear SVM",
    "discriminant": "discriminant on components",
    "nearest_neighbours": "nearest neighbours",
}
METHODS = {"scbert": "scBERT", "without_encoder": "scBERT without its encoder"} | BASELINES
EXPERTS = {
    "expert_logistic_regression": "its logistic regression",
    "expert_support_vectors": "its support vectors",
    "expert_discriminant": "its discriminant",
    "expert_encoder": "its encoder",
}
SHOWN = {  # method: colour and marker in the figure
    "scbert": (BLUE, "o"),
    "without_encoder": (ORANGE, "s"),
    "logistic_regression": (VERMILION, "D"),
    "linear_svm": (INK, "v"),
    "discriminant": (MUTED, "^"),
}
TITLES = {
    "pbmc68k_reduced": "pbmc68k_reduced, folds",
    "pbmc3k": "pbmc3k, folds",
    "pbmc3k_to_pbmc8k": "pbmc3k to pbmc8k",
    "kang": "Kang, a donor left out",
    "panc8": "panc8, a laboratory left out",
    "baron_human1": "baron_human1, folds",
    "kidney_immune": "kidney_immune, a donor left out",
    "geact": "geact, coarse types, folds",
}
HEAD = """# Annotation: accuracy on held-out cells, donors, laboratories and studies

    make bench-annotation DATA=FOLDER

Written by that command; do not edit. Every model is made with the default configuration, by the
steps of `scbert finetune`, from the encoder of the package, which has seen none of these studies
but one: a sample of Zheng68K's donor, which pbmc68k_reduced is a part of (other cells). Cells of
all folds are pooled and scored once, with a 95 % bootstrap interval over cells; a difference is on
the same resamples. The simple methods see log2 CP10K of all genes and learn from all cells that are
not tested; they are the baselines of rule compare: balanced logistic regression and SVM on genes
divided by their largest value, C = 1 and C = 0.1; the discriminant on 50 components of 2,000 genes,
equal shares of the types; 10 nearest neighbours. No method has a setting that was chosen on these
cells. How the experts were chosen, before this ran: docs/decisions/experts.md.
"""


def main() -> None:
    """Score what is there, and write the page and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--note", default="", help="what else a reader must know of these runs")
    options = parser.parse_args()
    settings = load_config(yaml.safe_load(default_config_file().read_text())).evaluate
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(options.folder.glob("*.json")):
        run = read_json(path) | {"cells": read_table(path.with_suffix(".tsv"), "cell", "true")}
        runs.setdefault(run["task"], []).append(run)
    found = {task: score(runs[task], settings) for task in TASKS if task in runs}
    parts = [
        HEAD,
        options.note and f"{options.note}\n",
        summary(found),
        "![Macro F1](annotation.svg)\n",
        means(found),
    ]
    parts += [section(task, one) for task, one in found.items()]
    (options.out / "annotation.md").write_text("\n".join(filter(None, parts)))
    (options.out / "annotation.svg").write_text(draw(found))


def score(runs: list[dict[str, Any]], settings: Evaluate) -> dict[str, Any]:
    """Pool the folds of each seed and score every method on them."""
    seeds = sorted({run["seed"] for run in runs})
    cells = {s: pd.concat([r["cells"] for r in runs if r["seed"] == s]) for s in seeds}
    first = cells[seeds[0]]
    true = first.true.to_numpy(dtype=str)
    named = {
        method: [of[method].to_numpy(dtype=str) for of in cells.values() if method in of]
        for method in (METHODS | EXPERTS)
    }
    for method in BASELINES:  # of the first seed: nothing in them is drawn anew
        named[method] = named[method][:1]
    classes = sorted({*true, *(name for own in named.values() for one in own for name in one)})
    right = np.concatenate([(of.scbert == of.true).to_numpy() for of in cells.values()])
    confidence = np.concatenate([of.confidence.to_numpy(dtype=float) for of in cells.values()])
    sizes = {"folds": len(runs) // len(seeds), "seeds": len(seeds), "cells": len(true)}
    return sizes | {
        "methods": {
            name: bootstrap_scores(true, own, classes, settings) for name, own in named.items()
        },
        "against": {
            name: paired_difference(true, named["scbert"], named[name], classes, settings)
            for name in (*BASELINES, "without_encoder")
        },
        "ece": expected_calibration_error(reliability(confidence, right)),
        "kept": sum(run["experts"]["encoder"]["weight"] > 0 for run in runs) / len(runs),
        "seconds": float(np.median([run["seconds_finetune"] for run in runs])),
        "peak": max(run["peak_mb"] for run in runs),
        "train": int(np.median([run["n_train"] for run in runs])),
    }


def best_of(one: dict[str, Any]) -> str:
    """Return the simple method with the highest macro F1 on the test cells: hindsight."""
    return max(BASELINES, key=lambda name: one["methods"][name]["macro_f1"]["mean"])


def summary(found: dict[str, dict[str, Any]]) -> str:
    """Return a line for each task."""
    lines = [
        "| data | folds, seeds, test cells | scBERT: accuracy | macro F1 | best simple method, by "
        "hindsight | its macro F1 | difference | without encoder | ECE | encoder kept |",
        "|---|---|---:|---:|---|---:|---|---:|---:|---:|",
    ]
    for task, one in found.items():
        methods, rival = one["methods"], best_of(one)
        difference = one["against"][rival]["macro_f1"]
        lines.append(
            f"| {TITLES[task]} | {one['folds']}, {one['seeds']}, {one['cells']:,} "
            f"| {methods['scbert']['accuracy']['mean']:.3f} "
            f"| **{methods['scbert']['macro_f1']['mean']:.3f}** | {BASELINES[rival]} "
            f"| {methods[rival]['macro_f1']['mean']:.3f} "
            f"| {with_interval(difference['mean'], difference, '+')} "
            f"| {methods['without_encoder']['macro_f1']['mean']:.3f} | {one['ece']:.3f} "
            f"| {one['kept']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def means(found: dict[str, dict[str, Any]]) -> str:
    """Return the mean macro F1 of every method over the tasks."""
    lines = [f"Macro F1, mean over the {len(found)} tasks:\n", "| method | mean |", "|---|---:|"]
    for method, title in (METHODS | EXPERTS).items():
        values = [one["methods"][method]["macro_f1"]["mean"] for one in found.values()]
        lines.append(f"| {title} | {np.mean(values):.3f} |")
    return "\n".join(lines) + "\n"


def section(task: str, one: dict[str, Any]) -> str:
    """Return every method's scores on a task."""
    lines = [
        f"## {TITLES[task]}\n",
        f"{one['train']:,} cells to learn from (median of the folds); a model took "
        f"{one['seconds']:.0f} s on one thread (reading, tokens, experts), at most "
        f"{one['peak']:,} MB.\n",
        "| method | accuracy | macro F1 |",
        "|---|---|---|",
    ]
    for method, title in (METHODS | EXPERTS).items():
        scores = one["methods"][method]
        shown = [
            with_interval(scores[key]["mean"], scores[key]) for key in ("accuracy", "macro_f1")
        ]
        lines.append(f"| {title} | {shown[0]} | {shown[1]} |")
    return "\n".join(lines) + "\n"


@svg_figure
def draw(found: dict[str, dict[str, Any]]) -> Figure:
    """Draw macro F1 with its interval, a group of rows for each task."""
    figure = Figure(figsize=(7.6, 0.6 + 0.8 * len(found)), layout="constrained")
    axes = figure.subplots()
    for row, one in enumerate(found.values()):
        offsets = np.linspace(-0.3, 0.3, len(SHOWN))
        for offset, (method, (colour, marker)) in zip(offsets, SHOWN.items(), strict=True):
            score = one["methods"][method]["macro_f1"]
            ends = [[score["mean"] - score["low"]], [score["high"] - score["mean"]]]
            axes.errorbar(
                score["mean"],
                row + offset,
                xerr=np.maximum(ends, 0),
                color=colour,
                fmt=marker,
                label=METHODS[method] if row == 0 else None,
            )
    axes.set_yticks(range(len(found)), [TITLES[task] for task in found])
    axes.invert_yaxis()
    axes.set_xlabel("macro F1 on cells that were held out, with 95 % interval")
    axes.grid(visible=True, axis="x")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


if __name__ == "__main__":
    main()
