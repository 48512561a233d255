"""Are cells noticed of a type that the model has never seen? Each type is left out in turn.

Run: python benchmarks/novelty.py DATA --out FOLDER [--pretrained MODEL] [--tasks pbmc3k kang]
[--seeds 2021 2022]

For each type of a task's first fold a model is fine-tuned, by default settings, without any cell
of it. Prints a table: the AUROC of each score, new against known test cells, and of the model's own
score the share of both that its threshold calls unknown. Models that FOLDER has are not made again.
"""

import argparse
import re
from pathlib import Path

import anndata as ad
import numpy as np
from annotation import answers, learn
from annotation_inputs import SPLIT_SEED, write_inputs
from annotation_tasks import TASKS

from scbert.calibration.novelty import SCORES, CellOutputs, novelty
from scbert.calibration.novelty_threshold import novelty_auroc
from scbert.config import Config
from scbert.logs import start_logging
from scbert.shipped import ENCODER, model_folder
from scbert.tables import read_table, write_table
from scbert.training.bundle import load_finetuned, load_pretrained
from scbert.training.labelled_file import settings_of

ACROSS = "pbmc3k_to_pbmc8k"  # all test cells are of another study


def main(options: argparse.Namespace) -> None:
    """Print a row for each task, seed and type."""
    encoder = load_pretrained(options.pretrained)
    print("| task | seed | left out | cells |", " | ".join(SCORES), "| noticed | known refused |")
    print("|---" * (len(SCORES) + 6) + "|")
    for task in options.tasks:
        made, inputs = TASKS[task](options.data, SPLIT_SEED), options.out / task / "inputs"
        if not inputs.exists():
            inputs.parent.mkdir(parents=True, exist_ok=True)
            config = settings_of(encoder, None, None)
            write_inputs(inputs, (task, made, made.tests[0]), options.pretrained, config)
        for seed in options.seeds:
            config = settings_of(encoder, None, seed)
            for left_out in sorted(
                read_table(inputs / "split.tsv", "cell_type").cell_type.unique()
            ):
                model = without(left_out, inputs, options.pretrained, config)
                cells = tested(inputs, left_out, within=task != ACROSS)
                said = " | ".join(measure(cells, model, left_out, made.scale))
                print(f"| {task} | {seed} | {left_out} | {said} |", flush=True)


def without(left_out: str, inputs: Path, pretrained: Path, config: Config) -> Path:
    """Fine-tune without a type, unless that was done before."""
    name = f"{config.finetune.seeds[0]}-{re.sub('[^A-Za-z0-9]', '_', left_out)}"
    model, split = inputs.parent / "models" / name, inputs.parent / f"{name}.tsv"
    if not model.exists():
        table = read_table(inputs / "split.tsv", "cell", "cell_type", "part")
        table.loc[table.cell_type == left_out, "part"] = "test"
        write_table(split, table)
        learn(inputs, split, pretrained, config, model)
    return model


def tested(inputs: Path, left_out: str, *, within: bool) -> ad.AnnData:
    """Return the test cells; within a study, also the cells of the type that others learn from."""
    test = ad.read_h5ad(inputs / "test.h5ad")
    if not within:
        return test
    cells = ad.read_h5ad(inputs / "cells.h5ad")
    return ad.concat([test, cells[cells.obs.cell_type == left_out]], merge="first")


def measure(cells: ad.AnnData, model: Path, left_out: str, scale: str) -> list[str]:
    """Return the number of new cells, AUROC by score, and what the threshold calls unknown."""
    bundle = load_finetuned(model)
    found, fitted = answers(cells, bundle, scale), bundle.calibration
    outputs = CellOutputs(found.logits, found.positions)
    is_novel = (cells.obs.cell_type == left_out).to_numpy()
    scores = {name: novelty(outputs, fitted | {"novelty_score": name}) for name in SCORES}
    refused = scores[fitted["novelty_score"]] > fitted["novelty_threshold"]
    aurocs = (novelty_auroc(scores[name], is_novel) for name in SCORES)
    return [
        str(np.count_nonzero(is_novel)),
        *("" if auroc is None else f"{auroc:.3f}" for auroc in aurocs),
        f"{refused[is_novel].mean():.3f}",
        f"{refused[~is_novel].mean():.3f}",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pretrained", type=Path, default=model_folder(ENCODER))
    parser.add_argument("--out", type=Path, default=Path("results/novelty"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["pbmc3k", ACROSS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[2021, 2022])
    start_logging()
    main(parser.parse_args())
