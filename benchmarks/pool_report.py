"""What finished runs of benchmarks/pool.yaml gave, and what the full run would take.

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
import torch
import yaml
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from scbert.config import Network
from scbert.evidence.figures import (
    BLUE,
    MUTED,
    VERMILION,
    Figure,
    epoch_axis,
    svg_figure,
)
from scbert.files import read_json
from scbert.training.hardware import H100
from scbert.training.new_models import new_pretraining_model

ROOT = Path(__file__).parents[1]
TOKENS, CELLS = 900, 1_000_000  # of a cell of PanglaoDB; of its human samples
UTILISATION = (0.2, 0.4)  # of these peaks; an assumption
DAY = 86_400
FAVOR = {"attention": "performer"}  # what the estimate is of; config/panglaodb.yaml takes exact
PAPER_SIZE = "config/panglaodb.yaml with FAVOR+"


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


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of matrix products in a training step, per token."""

    total: float
    float32: float  # those with random features, which autocast leaves alone


def count_flops(network: Network, n_cells: int, n_genes: int) -> float:
    """Count them in a training step of so many cells, by torch's FlopCounterMode.

    It sees every product that is done, those of our own backward pass and of what is computed
    again there included; sums and exponentials are not counted.
    """
    vectors = torch.zeros(n_genes, network.dim)
    model = new_pretraining_model(network, 5, vectors, seed=0)
    genes = torch.arange(n_genes).expand(n_cells, n_genes)
    tokens = torch.ones_like(genes)
    with FlopCounterMode(display=False) as counter:
        logits = model(genes, tokens, torch.ones_like(genes, dtype=torch.bool))
        functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
    return float(counter.get_total_flops())


def flops_per_token(network: Network) -> Flops:
    """Return those of cells of PanglaoDB; what grows with the random features is in float32."""
    n_cells = 2  # so many tokens are cut as those of a large batch are
    double = network.model_copy(update={"n_features": 2 * network.n_features})
    total, more = (count_flops(one, n_cells, TOKENS) for one in (network, double))
    return Flops(total / (n_cells * TOKENS), (more - total) / (n_cells * TOKENS))


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


def speed_table(runs: list[PoolRun], flops: Flops) -> list[str]:
    """Return what the runs took, and the speed of their products."""
    lines = [
        "| run | epochs | hours | hours of CPU | peak MB | cells/s | tokens/s "
        "| tokens/s, fastest epoch | GFLOP/s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for run in runs:
        speed = run.per_second("tokens")
        lines.append(
            f"| {run.name} | {len(run.history)} | {run.cost.s / 3600:.2f} "
            f"| {run.cost.cpu_time / 3600:.2f} | {run.cost.max_rss:.0f} "
            f"| {run.per_second('cells'):.1f} | {speed:,.0f} "
            f"| {run.history.tokens_per_second.max():,.0f} | {speed * flops.total / 1e9:.0f} |"
        )
    return lines


def full_run_table(networks: dict[str, Network], speed: float, epochs: int, share: float) -> str:
    """Return what PanglaoDB would take, at `speed` FLOP/s here and on one H100.

    Parameters
    ----------
    share
        Share of the cells that is trained on.
    """
    lines = [
        "| network | MFLOP per token | of these float32 | FLOP | here, one thread: days "
        "| one H100, at least: hours |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, network in networks.items():
        flops = flops_per_token(network)
        n_tokens = CELLS * TOKENS * share * epochs
        at_peak = (flops.total - flops.float32) / H100.half + flops.float32 / H100.full
        most, least = (n_tokens * at_peak / used / 3600 for used in UTILISATION)
        lines.append(
            f"| {name} | {flops.total / 1e6:.1f} | {flops.float32 / flops.total:.0%} "
            f"| {n_tokens * flops.total:.1e} | {n_tokens * flops.total / speed / DAY:,.0f} "
            f"| {least:.2g} to {most:.2g} |"
        )
    return "\n".join(lines)


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
    full = yaml.safe_load((ROOT / "config/panglaodb.yaml").read_text())
    default = yaml.safe_load((ROOT / "config/config.yaml").read_text())["network"]
    networks = {
        "this one": runs[0].network,
        PAPER_SIZE: Network.model_validate(default | full["network"] | FAVOR),
    }
    epochs = full["pretrain"]["optimizer"]["epochs"]
    share = 1 - full["pretrain"]["validation_fraction"]
    network, flops = runs[0].network, flops_per_token(runs[0].network)
    speed = runs[0].per_second("tokens") * flops.total
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
        *speed_table(runs, flops),
        "\nOne thread of a machine with two cores that was used by others too "
        f"({platform.machine()}, bf16 with AMX). Cells and tokens per second are those of "
        "training, without validation; the fastest epoch was disturbed least. GFLOP/s: tokens/s "
        "times the products of a training step, padding and optimizer not counted.",
        "\n## What PanglaoDB would take: an estimate\n",
        full_run_table(networks, speed, epochs, share),
        f"\n{CELLS:,} cells of {TOKENS} tokens, {epochs} epochs and {share:.0%} of the cells to "
        "train on, as in config/panglaodb.yaml. FLOP of matrix products, counted by torch's "
        "FlopCounterMode in a real step (forward, backward, and what is computed again there; a "
        "test holds the count against a formula). Here: at the "
        f"{speed / 1e9:.0f} GFLOP/s of run `{runs[0].name}`, taken to be the same for the larger "
        "network. H100: nothing was measured on one. Products with random features are in float32, "
        f"so they are set against {H100.full / 1e12:.0f} TFLOP/s, the others against "
        f"{H100.half / 1e12:.0f} (dense bf16; both from NVIDIA's data sheet of the H100 SXM), with "
        f"{UTILISATION[0]:.0%} to {UTILISATION[1]:.0%} of these peaks reached, which is what large "
        "language models reach in bf16. Narrow layers, exponentials and memory traffic will take "
        "more: a lower bound. Validation is not counted. Superseded: what one H200 takes is "
        "measured in [gpu.md](gpu.md), and config/panglaodb.yaml takes exact attention now; "
        "[scaling.md](../scaling.md) has the hours.",
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
