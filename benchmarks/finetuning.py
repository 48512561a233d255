"""Which fine-tuning suits best, by validation cells: gene identity, head, what is trained, loss.

Run: python benchmarks/finetuning.py DATA --pretrained MODEL [--out FOLDER] [--tasks ...]
[--variants ...] [--seeds 2021 2022 2023]

One fold of each task, at most --max-train-cells cells of it. A test cell is never read: the score
is the macro F1 of the validation cells at the epoch that they chose, which is optimistic for all
variants alike. What FOLDER/results.jsonl has is not done again. Writes docs/results/finetuning.md.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import annotation_models as models
import numpy as np
import pandas as pd
from annotation_inputs import write_inputs
from annotation_tasks import TASKS

from scbert.config import Config, load_config
from scbert.evidence.epochs import best_epoch
from scbert.logs import start_logging
from scbert.steps.reference import settings_of
from scbert.training.bundle import load_bundle

FOLDS = {"pbmc3k": "0", "kang": "kang_ctrl_101"}  # of panc8 too few cells are left
DEFAULT = "default"
VARIANTS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "gene_identity: frozen": {"gene_identity": "frozen"},
    "gene_identity: residual": {"gene_identity": "residual"},
    "train: last": {"train": "last"},
    "train: head": {"train": "head"},
    "train: lora": {"train": "lora"},
    "train: original": {"train": "original"},
    "head: hybrid": {"head": "hybrid"},
    "head: conv": {"head": "conv"},
    "head: pooled": {"head": "pooled"},
    "linear: trainable": {"linear": "trainable"},
    "class_balance: none": {"class_balance": "none"},
    "class_balance: effective": {"class_balance": "effective"},
    "loss: focal": {"loss": "focal"},
    "logit_adjustment: 1": {"class_balance": "none", "logit_adjustment": 1.0},
    "label_smoothing: 0.1": {"label_smoothing": 0.1},
    "dropout: 0": {"dropout": 0.0},
    "weight_decay: 0.1": {"optimizer": {"weight_decay": 0.1}},
}
HEAD = """# Fine-tuning: what each choice is worth, by validation cells

    python benchmarks/finetuning.py DATA --pretrained MODEL

Written by that command; do not edit. Encoder: benchmarks/pool_small.yaml. Settings:
benchmarks/finetuning.yaml, one changed in each row; one fold of each task, at most {most:,} cells
to learn from, seeds {seeds}. Validation cells: {cells}.

Macro F1 of the validation cells at the epoch that they chose: optimistic, for all alike, and no
test cell is read. "Difference": of the encoder's half alone (of the whole model, if it has no
halves) from the default's with the same seed and task: mean and standard error over tasks and
seeds. In brackets: what the whole model reaches. The logistic regression alone: {linear}.

| variant | difference | {tasks} |
|---|---:|{lines}
"""


def main(options: argparse.Namespace) -> None:
    """Train what is not there yet, and write the table."""
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "results.jsonl"
    encoder, names = load_bundle(options.pretrained), options.variants or list(VARIANTS)
    jobs = [(t, v, s) for s in options.seeds for t in options.tasks for v in names]
    for task, variant, seed in jobs:
        done = [(line["task"], line["variant"], line["seed"]) for line in lines_of(file)]
        if (task, variant, seed) in done:
            continue
        config = settings_of(encoder, options.config, seed)
        config = changed(config, VARIANTS[variant])
        line = {"task": task, "variant": variant, "seed": seed, **train(task, config, options)}
        with file.open("a") as handle:
            handle.write(json.dumps(line) + "\n")
        print(line, flush=True)
    if options.table:
        options.table.write_text(table(pd.DataFrame(lines_of(file)), options.max_train_cells))


def changed(config: Config, new: dict[str, Any]) -> Config:
    """Return the configuration with other values of its section finetune."""
    values = config.model_dump(mode="json")
    optimizer = values["finetune"]["optimizer"] | new.get("optimizer", {})
    values["finetune"] |= {**new, "optimizer": optimizer}
    return load_config(values)


def lines_of(file: Path) -> list[dict[str, Any]]:
    """Return the results so far."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def train(task: str, config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune once, and return the best epoch's validation scores."""
    inputs = options.out / "inputs" / task
    if not inputs.exists():
        made = TASKS[task](options.data, 2021)
        inputs.parent.mkdir(exist_ok=True)
        what = (task, made, FOLDS[task])
        write_inputs(inputs, what, options.pretrained, config, options.max_train_cells)
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        model, checkpoint = Path(folder) / "model", Path(folder) / "checkpoint"
        split = inputs / "split.tsv"
        models.train(inputs, split, options.pretrained, config, model, checkpoint)
        history = lines_of(model / "history.jsonl")
        cells = json.loads((model / "config.json").read_text())["cells"]
    best = best_epoch(history)
    scores = {key: value for key, value in best.items() if key.startswith("validation_")}
    alone = [
        line.get("validation_macro_f1_encoder", line["validation_macro_f1"]) for line in history
    ]
    return {**scores, "encoder": max(alone), "cells": cells, "seconds": time.time() - began}


def table(found: pd.DataFrame, most: int) -> str:
    """Return the page."""
    tasks, seeds = sorted(found.task.unique()), sorted(found.seed.unique())
    base = found[found.variant == DEFAULT].set_index(["task", "seed"])
    cells = {task: own.cells.iloc[0]["validation"] for task, own in found.groupby("task")}
    linear = base.groupby("task").validation_macro_f1_expression.mean()
    head = HEAD.format(
        most=most,
        seeds=", ".join(map(str, seeds)),
        cells=", ".join(f"{cells[task]:,} ({task})" for task in tasks),
        linear=", ".join(f"{linear[task]:.3f} ({task})" for task in tasks),
        tasks=" | ".join(f"encoder's half (whole model), {task}" for task in tasks),
        lines="---:|" * len(tasks),
    )
    rows = [
        _row(name, found[found.variant == name], base, tasks) for name in found.variant.unique()
    ]
    return head + "\n".join(rows) + "\n"


def _row(name: str, own: pd.DataFrame, base: pd.DataFrame, tasks: list[str]) -> str:
    here = own.set_index(["task", "seed"])
    paired = (here.encoder - base.encoder).dropna()
    error = paired.std() / np.sqrt(len(paired))
    means = here.groupby("task")[["encoder", "validation_macro_f1"]].mean()
    shown = {
        task: f"{mean.encoder:.3f} ({mean.validation_macro_f1:.3f})"
        for task, mean in means.iterrows()
    }
    values = [
        name,
        "" if name == DEFAULT else f"{paired.mean():+.3f} ± {error:.3f}",
        *(shown.get(task, "") for task in tasks),
    ]
    return f"| {' | '.join(values)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pretrained", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("benchmarks/finetuning.yaml"))
    parser.add_argument("--out", type=Path, default=Path("results/finetuning"))
    parser.add_argument("--table", type=Path, default=Path("docs/results/finetuning.md"))
    parser.add_argument("--tasks", nargs="+", choices=FOLDS, default=list(FOLDS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[2021, 2022, 2023])
    parser.add_argument("--max-train-cells", type=int, default=1000)
    start_logging()
    main(parser.parse_args())
