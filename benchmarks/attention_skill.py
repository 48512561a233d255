"""Skill of exact attention beside FAVOR+ on real cells, at a size that one core trains in minutes.

Run: python benchmarks/attention_skill.py RUN --out FOLDER (docs/results/attention.md).
RUN is the folder of a run of benchmarks/pool_small.yaml: its tokens, vocabulary and gene vectors
are the input of each training. One that is in FOLDER is not done again, one that was stopped goes
on, and the page is written after each.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from scbert.config import PretrainSettings, load_config, settings_for
from scbert.files import read_json

ROOT = Path(__file__).parents[1]
SEEDS = (2021, 2022, 2023)


@dataclass(frozen=True)
class Training:
    """One training, in the order in which they are done."""

    attention: str
    qk_rms: float | None
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.attention}-{self.qk_rms or 'null'}-{self.seed}"


TRAININGS = [
    *(
        Training(attention, qk_rms, seed)
        for seed in SEEDS
        for attention, qk_rms in (("exact", None), ("performer", 0.5))
    ),
    Training("exact", 0.5, SEEDS[0]),
]


def settings_of(training: Training) -> str:
    """Return the settings of a training as JSON: benchmarks/pool_small.yaml, and what it varies."""
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    small = yaml.safe_load((ROOT / "benchmarks/pool_small.yaml").read_text())
    varied = {
        "network": {"attention": training.attention, "qk_rms": training.qk_rms},
        "pretrain": {"seed": training.seed},
    }
    for changes in (small, varied):
        values = _changed(values, changes)
    return settings_for(PretrainSettings, load_config(values))


def _changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    inner = {
        key: _changed(values[key], change) if isinstance(change, dict) else change
        for key, change in changes.items()
    }
    return values | inner


def train(training: Training, run: Path, out: Path) -> None:
    """Pretrain in a process of its own, as the workflow does."""
    (tokens,) = (run / "results/tokens").iterdir()
    given = {
        "tokens": tokens,
        "vocabulary": run / "results/vocabulary.tsv",
        "gene2vec": run / "results/gene2vec",
        "pretrained": out / training.name,
        "checkpoint": out / "checkpoints" / training.name,
        "settings": settings_of(training),
    }
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    with (out / f"{training.name}.log").open("a") as log:
        subprocess.run(
            [sys.executable, str(ROOT / "scripts/pretrain.py"), *words],
            check=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def row(training: Training, bundle: Path) -> dict[str, Any]:
    """Return what the page says of a finished training."""
    found = read_json(bundle / "validation.json")
    history = pd.read_json(bundle / "history.jsonl", lines=True)
    skill, layers = found["skill"], found["attention"]
    best = found["predictors"][found["best_predictor"]]["loss"]
    collapsed = sum(layer["collapsed"] for layer in layers)
    uniform = ", ".join(f"{layer['from_uniform']:.2f}" for layer in layers)
    return {
        "attention": training.attention,
        "qk_rms": training.qk_rms or "null",
        "seed": training.seed,
        "held-out cells": f"{found['cells']:,}",
        "loss": f"{found['loss']:.4f}",
        "best predictor": f"{best:.4f}",
        "skill": f"{skill['mean']:.3f} ({skill['low']:.3f} to {skill['high']:.3f})",
        "seconds": f"{history.seconds.sum():.0f}",
        "collapsed layers": f"{collapsed} of {len(layers)}",
        "from uniform, by layer": uniform,
    }


def page(rows: list[dict[str, Any]]) -> str:
    """Return the page."""
    lines = [f"| {' | '.join(map(str, line.values()))} |" for line in rows]
    header = [f"| {' | '.join(rows[0])} |", "|" + "---|" * len(rows[0])]
    text = [
        "# Exact attention beside FAVOR+: skill",
        "\nWritten by `python benchmarks/attention_skill.py RUN --out FOLDER`; do not edit. "
        "benchmarks/pool_small.yaml: PBMC of five studies, width 64, two layers, five epochs, one "
        "thread; tokens, vocabulary and gene vectors are the same for all. The seed also chooses "
        "the studies that are held out: compare within a seed.\n",
        *header,
        *lines,
        "\nLoss: nats per hidden gene of held-out studies. Best predictor: the loss of the best "
        "one without a network. Skill: 1 - loss / that, with a 95 % bootstrap interval over "
        "held-out cells. Seconds: of training, validation not counted, on a machine that others "
        "used too. From uniform: total variation between attention and a mean over the genes of "
        "a cell, 0 to 1. FAVOR+ approximates another function where attention is sharp, so the two "
        "are different networks, and a trained one keeps its attention.",
    ]
    return "\n".join(text) + "\n"


def main() -> None:
    """Train what is not there yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path, default=ROOT / "docs/results/attention.md")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for training in TRAININGS:
        if not (options.out / training.name).is_dir():
            train(training, options.run, options.out)
        rows.append(row(training, options.out / training.name))
        options.page.write_text(page(rows))
        print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
