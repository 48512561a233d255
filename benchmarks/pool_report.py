"""Results of finished runs of benchmarks/pool.yaml.

Run: python benchmarks/pool_report.py FOLDER [FOLDER ...] (docs/results/pretraining.md and .svg).
A folder is that of a run: results/pretrained and results/benchmarks/pretrain.tsv are read.
"""

import argparse
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scbert.config import Network
from scbert.files import read_json
from scbert.report.style import BLUE, MUTED, VERMILION, Figure, epoch_axis, svg_figure

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class PoolRun:
    """A finished run: its bundle's files, and what Snakemake measured of the process."""

    name: str
    history: pd.DataFrame
    validation: dict[str, Any]
    config: dict[str, Any]
    cost: pd.Series

    @property
    def network(self) -> Network:
        """The network of the run."""
        return Network.model_validate(self.config["network"])

    def per_second(self, what: str) -> float:
        """Return cells or tokens per second of training, over all epochs."""
        seconds = self.history.seconds
        return float((self.history[f"{what}_per_second"] * seconds).sum() / seconds.sum())


def read_run(folder: Path) -> PoolRun:
    """Read what a run left; raises FileNotFoundError if it has not ended."""
    bundle = folder / "results/pretrained"
    if not bundle.is_dir():
        raise FileNotFoundError(f"{bundle} does not exist: the run has not ended.")
    return PoolRun(
        folder.name,
        pd.read_json(bundle / "history.jsonl", lines=True),
        read_json(bundle / "validation.json"),
        read_json(bundle / "config.json"),
        pd.read_csv(folder / "results/benchmarks/pretrain.tsv", sep="\t").iloc[-1],
    )


def results_table(runs: list[PoolRun]) -> list[str]:
    """Return held-out loss and accuracy beside the predictors, and the skill."""
    lines = [
        "| run | cells | held out | loss | accuracy | additive: loss | accuracy "
        "| best predictor | skill over it | kept visible: loss | accuracy |",
        "|---|---:|---:|---:|---:|---:|---:|---|---|---:|---:|",
    ]
    for run in runs:
        found, kept = run.validation, run.validation["kept_visible"]
        additive, skill = found["predictors"]["additive"], found["skill"]
        lines.append(
            f"| {run.name} | {run.config['tokens']['cells'] - found['cells']:,} | "
            f"{found['cells']:,} | {found['loss']:.4f} | {found['accuracy']:.4f} | "
            f"{additive['loss']:.4f} | {additive['accuracy']:.4f} | {found['best_predictor']} | "
            f"{skill['mean']:.3f} ({skill['low']:.3f} to {skill['high']:.3f}) | "
            f"{kept['loss']:.4f} | {kept['accuracy']:.4f} |"
        )
    return lines


def collapse(run: PoolRun) -> str:
    """Say in which layers attention has collapsed to a mean over genes, as measured by the run."""
    attention = run.validation["attention"]
    layers = ", ".join(str(layer["layer"]) for layer in attention if layer["collapsed"])
    return (
        f"\nAttention of `{run.name}` has collapsed to a mean over genes "
        f"(docs/decisions/network.md) in "
        f"{'layers ' + layers if layers else 'no layer'} of {len(attention)}."
    )


def speed_table(runs: list[PoolRun]) -> list[str]:
    """Return what the runs took."""
    lines = [
        "| run | epochs | hours | hours of CPU | peak MB | cells/s | tokens/s "
        "| tokens/s, fastest epoch |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for run in runs:
        speed = run.per_second("tokens")
        lines.append(
            f"| {run.name} | {len(run.history)} | {run.cost.s / 3600:.2f} "
            f"| {run.cost.cpu_time / 3600:.2f} | {run.cost.max_rss:.0f} "
            f"| {run.per_second('cells'):.1f} | {speed:,.0f} "
            f"| {run.history.tokens_per_second.max():,.0f} |"
        )
    return lines


@svg_figure
def draw(runs: list[PoolRun]) -> Figure:
    """Draw the losses of each run by epoch, a panel each."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, max(2, len(runs)), sharey=True))
    for axes, run in zip(panels, runs, strict=False):
        epochs = run.history.epoch
        additive = run.validation["predictors"]["additive"]["loss"]
        axes.plot(epochs, run.history.train_loss, color=BLUE, marker="o", label="training cells")
        axes.plot(
            epochs, run.history.validation_loss, color=VERMILION, marker="s", label="held-out cells"
        )
        axes.axhline(additive, color=MUTED, linestyle="--", label="additive predictor, held-out")
        epoch_axis(axes, epochs.tolist())
        axes.set_title(f"{run.name}: {run.config['tokens']['cells']:,} cells")
        axes.grid(visible=True)
    panels[0].set_ylabel("loss, nats per masked gene")
    for axes in panels[len(runs) :]:
        axes.set_axis_off()
    handles, names = panels[0].get_legend_handles_labels()
    where = panels[-1] if len(runs) < len(panels) else panels[0]
    where.legend(handles, names, loc="upper right")
    return figure


def page(runs: list[PoolRun]) -> str:
    """Return the page; the estimate takes the speed of the first run."""
    network = runs[0].network
    lines = [
        "# Pretraining on real cells",
        "\nWritten by `make bench-pretraining POOL=POOL.h5ad`; do not edit. "
        "benchmarks/pool.yaml: PBMC of several studies, of which whole ones are held out; "
        f"width {network.dim}, {network.depth} layers, {network.heads} heads of "
        f"{network.dim_head}, {network.n_features} features; gene2vec from the same cells. "
        "`without`: without the study pbmc8k; `with`: with it. Their held-out cells differ if the "
        "studies do.",
        "\n## What it learns\n",
        *results_table(runs),
        "\nLoss in nats and accuracy over hidden genes of held-out cells only. Skill: 1 - loss / "
        "loss of the best predictor that needs no network, with a "
        f"{runs[0].validation['confidence_level']:.0%} bootstrap interval over held-out cells: "
        "it says nothing about other studies or other seeds, of which there is one. Kept visible: "
        "the tenth of the targets that the network sees; repeating them is easy.",
        *(collapse(run) for run in runs),
        "\n![Loss by epoch](pretraining.svg)",
        "\nThe loss of training cells is over all targets, those kept visible included, and while "
        "the weights change; that of held-out cells is over hidden ones, after the epoch.",
        "\n## What it takes\n",
        *speed_table(runs),
        "\nOne thread of a machine with two cores that was used by others too "
        f"({platform.machine()}, bf16 with AMX). Cells and tokens per second are those of "
        "training, without validation; the fastest epoch was disturbed least.",
        "\nWhat one H200 takes is measured in [gpu.md](gpu.md); [scaling.md](../scaling.md) has "
        "the hours of PanglaoDB.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page and the figure of the runs that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results")
    options = parser.parse_args()
    runs = [read_run(folder) for folder in options.folders]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "pretraining.md").write_text(page(runs))
    (options.out / "pretraining.svg").write_text(draw(runs))
    print(json.dumps({run.name: run.validation["skill"] for run in runs}))


if __name__ == "__main__":
    main()
