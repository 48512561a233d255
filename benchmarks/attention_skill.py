"""Skill of exact attention beside FAVOR+ on real cells, with the small network that ships.

Run: python benchmarks/attention_skill.py INPUTS --out FOLDER --machine "One GPU." writes
docs/results/attention.md.
INPUTS holds tokens, vocabulary.tsv and gene2vec of a run of config/encoder.yaml, as
benchmarks/gpu_carry.py unpacks them. One training that is in FOLDER is not done again, one that was
stopped goes on, and the page is written after each.
"""

import argparse
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from scbert.config import PretrainSettings, load_config, settings_for
from scbert.files import read_json

ROOT = Path(__file__).parents[1]
SEEDS = (2021, 2022, 2023)
TOKENS_PER_BATCH = 16_384


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


def settings_of(training: Training, epochs: int) -> str:
    """Return the settings of a training as JSON: config/encoder.yaml, and what it varies."""
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    encoder = yaml.safe_load((ROOT / "config/encoder.yaml").read_text())
    varied = {
        "network": {"attention": training.attention, "qk_rms": training.qk_rms},
        "pretrain": {
            "seed": training.seed,
            "optimizer": {"epochs": epochs, "tokens_per_batch": TOKENS_PER_BATCH},
        },
    }
    for changes in (encoder, varied):
        values = _changed(values, changes)
    return settings_for(PretrainSettings, load_config(values))


def _changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    inner = {
        key: _changed(values[key], change) if isinstance(change, dict) else change
        for key, change in changes.items()
    }
    return values | inner


def train(training: Training, epochs: int, inputs: Path, out: Path) -> None:
    """Pretrain in a process of its own, as the workflow does."""
    if (out / training.name).is_dir():
        return
    given = {
        "tokens": inputs / "tokens",
        "vocabulary": inputs / "vocabulary.tsv",
        "gene2vec": inputs / "gene2vec",
        "pretrained": out / training.name,
        "checkpoint": out / "checkpoints" / training.name,
        "settings": settings_of(training, epochs),
        "device": "auto",
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
        "epochs": len(history),
        "seconds": f"{history.seconds.sum():.0f}",
        "collapsed layers": f"{collapsed} of {len(layers)}",
        "from uniform, by layer": uniform,
    }


def beside(rows: list[dict[str, Any]]) -> str:
    """Say for each seed which skill is higher, and which intervals overlap."""
    said = []
    for seed in sorted({line["seed"] for line in rows}):
        same = [line for line in rows if line["seed"] == seed]
        for number, one in enumerate(same):
            said += [f"- {seed}: {_pair(one, other)}" for other in same[number + 1 :]]
    return "\n".join(["\nSkill with the same seed, intervals over the held-out cells:\n", *said])


def _pair(one: dict[str, Any], other: dict[str, Any]) -> str:
    (name, low, high), (other_name, other_low, other_high) = map(_interval, (one, other))
    overlap = low <= other_high and other_low <= high
    skills = [line["skill"].split()[0] for line in (one, other)]
    said = "the intervals overlap" if overlap else "the intervals are apart"
    return f"{name} {skills[0]}, {other_name} {skills[1]}; {said}."


def _interval(line: dict[str, Any]) -> tuple[str, float, float]:
    low, high = map(float, re.findall(r"[-.\d]+", line["skill"])[1:])
    name = "FAVOR+" if line["attention"] == "performer" else "exact"
    limited = "" if line["qk_rms"] == "null" else f" (qk_rms {line['qk_rms']})"
    return name + limited, low, high


def page(rows: list[dict[str, Any]], machine: str) -> str:
    """Return the page; `machine`: on what, how and from which commit."""
    lines = [f"| {' | '.join(map(str, line.values()))} |" for line in rows]
    header = [f"| {' | '.join(rows[0])} |", "|" + "---|" * len(rows[0])]
    text = [
        "# Exact attention beside FAVOR+: skill",
        "\nWritten by `python benchmarks/attention_skill.py INPUTS --out FOLDER`; do not edit. "
        f"config/encoder.yaml (width 128, three layers), {TOKENS_PER_BATCH:,} tokens a batch; "
        "tokens, vocabulary and gene vectors are the same for all. The seed also chooses the "
        f"studies that are held out: compare within a seed. {machine}\n",
        *header,
        *lines,
        beside(rows),
        "\nLoss: nats per hidden gene of held-out studies. Best predictor: the loss of the best "
        "one without a network. Skill: 1 - loss / that, with a 95 % bootstrap interval over "
        "held-out cells. Seconds: of training, validation not counted. From "
        "uniform: total variation between attention and a mean over the genes of "
        "a cell, 0 to 1. FAVOR+ approximates another function where attention is sharp, so the two "
        "are different networks, and a trained one keeps its attention.",
    ]
    return "\n".join(text) + "\n"


def main() -> None:
    """Train what is not there yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path, default=ROOT / "docs/results/attention.md")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--machine", required=True, help="a sentence for the page: on what, commit")
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with ThreadPoolExecutor(options.at_once) as pool:
        given = (options.epochs, options.inputs, options.out)
        runs = [pool.submit(train, training, *given) for training in TRAININGS]
        for training, run in zip(TRAININGS, runs, strict=True):
            run.result()
            rows.append(row(training, options.out / training.name))
            options.page.write_text(page(rows, options.machine))
            print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
