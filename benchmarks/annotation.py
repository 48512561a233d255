"""Accuracy and macro F1 of fine-tuned models beside logistic regression, on real labelled data.

Run: python benchmarks/annotation.py DATA --pretrained MODEL --config FILE.yaml --out FOLDER
[--tasks kang panc8] [--seeds 2021 2022 2023] [--folds 0] [--max-train-cells 300] [--jobs 2]

A process for each task and fold makes the inputs and the baselines, then one for each seed trains.
What FOLDER/results.jsonl has is not done again; a training that was killed goes on from its
checkpoint. The tables: FOLDER/annotation.md.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from annotation_inputs import ENCODER, SPLIT_SEED, write_inputs
from annotation_models import outputs_of, read_test_cells, train
from annotation_table import write_tables
from annotation_tasks import TASKS
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.svm import LinearSVC

from scbert.cells.expression import cell_sums, normalize
from scbert.cells.store import TokenStore
from scbert.cells.tables import read_table, write_table
from scbert.config import Config
from scbert.files import sha256_of
from scbert.logs import start_logging
from scbert.steps.reference import settings_of
from scbert.steps.score import predict_types
from scbert.training.bundle import Bundle, load_bundle
from scbert.training.devices import choose_device

BASELINES = "baselines"  # stands where a seed does
OF_OBS = {"scbert_label": "scbert", "logistic_regression": "logistic_regression_binned"}


def main(options: argparse.Namespace) -> int:
    """Do what is not done yet, write the tables, and return how many processes failed."""
    options.out.mkdir(parents=True, exist_ok=True)
    config = settings_of(load_bundle(options.pretrained), options.config, None)
    run, folds = identity(options, config), {}
    for task in options.tasks:
        made = TASKS[task](options.data, SPLIT_SEED)
        for batch, reason in made.skipped.items():
            print(f"{task}: {batch} is left out: {reason}")
        folds[task] = [fold for fold in made.tests if not options.folds or fold in options.folds]
    failed = 0
    for seeds in ([BASELINES], [str(seed) for seed in options.seeds]):
        done = {(line["task"], line["fold"], line["seed"]) for line in results(options.out, run)}
        jobs = [(task, fold, s) for s in seeds for task in options.tasks for fold in folds[task]]
        with ThreadPoolExecutor(options.jobs) as pool:
            failed += sum(pool.map(lambda job: start(job, run), [j for j in jobs if j not in done]))
        write_tables(options.out, results(options.out, run), options.data, config.evaluate)
    print((options.out / "annotation.md").read_text())
    return failed


def identity(options: argparse.Namespace, config: Config) -> str:
    """Return what results of the same settings have in common."""
    parts = [config.model_dump_json(exclude={"finetune": {"seeds"}}), str(options.max_train_cells)]
    parts.append(sha256_of(options.pretrained / "MANIFEST.sha256"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def results(out: Path, run: str) -> list[dict[str, Any]]:
    """Return the results of these settings so far."""
    file = out / "results.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line for line in map(json.loads, lines) if line["run"] == run]


def start(job: tuple[str, str, str], run: str) -> int:
    """Do a job in a process of its own; return 1 if it failed."""
    began, name = time.time(), "-".join((run, *job)).replace("/", "_")
    log = options.out / "logs" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as handle:
        command = [sys.executable, *sys.argv, "--job", *job, "--run", run]
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        ended = subprocess.run(command, stdout=handle, stderr=handle, env=environment, check=False)
    failed = int(ended.returncode != 0)
    print(*job, f"{time.time() - began:.0f} s", f"FAILED, see {log}" if failed else "", flush=True)
    return failed


def do(job: tuple[str, str, str], run: str) -> None:
    """Make the inputs if they are not there, then fit the baselines or train with a seed."""
    task, fold, seed = job
    encoder = load_bundle(options.pretrained)
    config = settings_of(encoder, options.config, None if seed == BASELINES else int(seed))
    inputs = options.out / "work" / run / f"{task}-{fold}".replace("/", "_")
    if not inputs.exists():
        made = TASKS[task](options.data, SPLIT_SEED)
        write_inputs(
            inputs, (task, made, fold), options.pretrained, config, options.max_train_cells
        )
    began = time.time()
    predicted = baselines(inputs) if seed == BASELINES else trained(inputs, config, int(seed))
    file = Path("predictions") / f"{run}-{task}-{fold}-{seed}.tsv".replace("/", "_")
    write_table(options.out / file, predicted)
    line = {
        "run": run,
        "task": task,
        "fold": fold,
        "seed": seed,
        "predictions": str(file),
        "parts": read_table(inputs / "split.tsv", "part").part.value_counts().to_dict(),
        "n_test": len(predicted),
        "seconds": round(time.time() - began, 1),
        "device": str(choose_device(config.device)),
    }
    with (options.out / "results.jsonl").open("a") as handle:
        handle.write(json.dumps(line) + "\n")


def trained(inputs: Path, config: Config, seed: int) -> pd.DataFrame:
    """Fine-tune, and name the test cells by the model and by what is in its bundle."""
    model = inputs / "models" / str(seed)
    if not model.exists():
        checkpoint = inputs / "checkpoints" / str(seed)
        own = inputs / ENCODER
        encoder = own if own.exists() else options.pretrained
        train(inputs, inputs / "split.tsv", encoder, config, model, checkpoint)
    bundle = load_bundle(model)
    cells, store = read_test_cells(inputs, model, bundle, config)
    obs = predict_types(cells, bundle, store, np.arange(len(store))).obs
    found = {name: obs[column] for column, name in OF_OBS.items() if column in obs}
    if hasattr(bundle.model.head, "halves"):
        found |= halves(bundle, store)
    shutil.rmtree(model)
    return _predictions(cells, found)


def halves(bundle: Bundle, store: TokenStore) -> dict[str, Any]:
    """Name cells by each half of a hybrid head alone."""
    outputs = outputs_of(bundle, store, np.arange(len(store)))
    names = np.array([label["name"] for label in bundle.labels or []])
    return {
        f"scbert, {half} half": names[logits.argmax(axis=1)]
        for half, logits in outputs.halves.items()
    }


def baselines(inputs: Path) -> pd.DataFrame:
    """Fit on all cells that are not tested, all genes that both files have, and C = 1."""
    cells, test = ad.read_h5ad(inputs / "counts.h5ad"), ad.read_h5ad(inputs / "test.h5ad")
    genes = [gene for gene in cells.var_names if gene in set(test.var_names)]
    ours, theirs = _expression(cells, genes), _expression(test, genes)
    types, found = cells.obs.cell_type.to_numpy(dtype=str), {}
    for name, classifier in (
        ("logistic_regression", LogisticRegression(C=1, max_iter=10_000)),
        ("linear_svm", LinearSVC(C=1, dual="auto", max_iter=10_000, random_state=SPLIT_SEED)),
    ):
        pipeline = make_pipeline(MaxAbsScaler(), classifier).fit(ours, types)
        found[name] = pipeline.predict(theirs)
    return _predictions(test, found)


def _expression(cells: ad.AnnData, genes: list[str]) -> sparse.csr_matrix:
    counts = sparse.csr_matrix(cells.X)
    columns = cells.var_names.get_indexer(pd.Index(genes))
    return normalize(counts, np.maximum(cell_sums(counts), 1), 10_000)[:, columns]


def _predictions(cells: ad.AnnData, found: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame({"cell": cells.obs_names, "true": cells.obs.cell_type.to_numpy(dtype=str)})
    return table.assign(**{name: np.asarray(labels, dtype=str) for name, labels in found.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pretrained", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[2021, 2022, 2023])
    parser.add_argument("--folds", nargs="+", default=[])
    parser.add_argument("--max-train-cells", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        start_logging()
        do(tuple(options.job), options.run)
    else:
        sys.exit(main(options))
