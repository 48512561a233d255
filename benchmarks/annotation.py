"""Eight tasks of naming cells, with the default configuration, beside simple methods.

Run: python benchmarks/annotation.py DATA --out FOLDER [--pretrained MODEL] [--tasks kang panc8]
[--seeds 2021 2022 2023] [--jobs 2]

Each task, fold and seed is a process of its own that goes through the steps of `scbert finetune`
and of `scbert annotate`; what FOLDER has is not done again. The page: annotation_page.py.
"""

import argparse
import os
import resource
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
from annotation_inputs import SPLIT_SEED, write_inputs
from annotation_tasks import TASKS
from scipy import sparse

from scbert.calibration.confidence import softmax
from scbert.cells.how_to_read import HowToRead
from scbert.cells.quality import cell_sums
from scbert.cells.query import query_in_memory
from scbert.config import Config, FinetuneSettings, settings_for
from scbert.evidence.baselines import LabelledCells, fit_baseline
from scbert.experts.combiner import Share, combine
from scbert.files import read_json, write_json
from scbert.logs import start_logging
from scbert.steps.finetune_training_cells import finetune_training_cells
from scbert.tables import write_table
from scbert.tokens.tokenize import normalize
from scbert.training.answers import each_answer, joined_answers
from scbert.training.bundle import load_finetuned, load_pretrained
from scbert.training.devices import choose_device
from scbert.training.labelled_file import settings_of
from scbert.training.predict import Outputs
from scbert.training.query_tokens import tokens_for
from scbert.training.saved_model import FinetunedModel

BASELINES = ("logistic_regression", "linear_svm", "discriminant", "nearest_neighbours")
ENCODER = Path(__file__).parent.parent / "scbert/shipped/encoder"


def main(options: argparse.Namespace) -> int:
    """Do what is not done yet, and return how many processes failed."""
    jobs = []
    for task in options.tasks:
        made = TASKS[task](options.data, SPLIT_SEED)
        for batch, reason in made.skipped.items():
            print(f"{task}: {batch} is left out: {reason}")
        jobs += [(task, str(fold), str(seed)) for seed in options.seeds for fold in made.tests]
    with ThreadPoolExecutor(options.jobs) as pool:
        return sum(pool.map(start, [job for job in jobs if not result_of(job).exists()]))


def result_of(job: tuple[str, str, str]) -> Path:
    """Return the file of a job's numbers; its predictions lie beside it."""
    return options.out / f"{'-'.join(job)}.json".replace("/", "_").replace(" ", "_")


def start(job: tuple[str, str, str]) -> int:
    """Do a job in a process of its own; return 1 if it failed."""
    began, log = time.time(), result_of(job).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as handle:
        command = [sys.executable, *sys.argv, "--job", *job]
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        ended = subprocess.run(command, stdout=handle, stderr=handle, env=environment, check=False)
    failed = int(ended.returncode != 0)
    print(*job, f"{time.time() - began:.0f} s", f"FAILED, see {log}" if failed else "", flush=True)
    return failed


def do(job: tuple[str, str, str]) -> None:
    """Learn from all cells but a fold's, and name those of the fold."""
    task, fold, seed = job
    encoder = load_pretrained(options.pretrained)
    config = settings_of(encoder, None, int(seed))
    work, made = result_of(job).with_suffix(".work"), TASKS[task](options.data, SPLIT_SEED)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    inputs, model = work / "inputs", work / "model"
    began = time.time()
    write_inputs(inputs, (task, made, fold), options.pretrained, config)
    learn(inputs, inputs / "split.tsv", options.pretrained, config, model)
    learned = time.time()
    test = ad.read_h5ad(inputs / "test.h5ad")
    table = named(test, load_finetuned(model), made.scale)
    asked = time.time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    if int(seed) == options.seeds[0]:
        for name, labels in baselines(inputs).items():
            table[name] = labels
    write_table(result_of(job).with_suffix(".tsv"), table)
    calibration = read_json(model / "calibration.json")
    numbers: dict[str, Any] = {
        "task": task,
        "fold": fold,
        "seed": int(seed),
        "n_train": int(sum(load_finetuned(model).config["cells"].values())),
        "n_test": len(table),
        "seconds_finetune": round(learned - began, 1),
        "seconds_annotate": round(asked - learned, 1),
        "peak_mb": round(peak),
        "encoder": encoder.sha256[:12],
        "experts": calibration["experts"],
        "out_of_fold": calibration["out_of_fold"],
    }
    write_json(result_of(job), numbers)
    shutil.rmtree(work)


def learn(inputs: Path, split: Path, pretrained: Path, config: Config, model: Path) -> None:
    """Fine-tune with the first seed of the configuration."""
    (tokens,) = (inputs / "tokens").iterdir()
    given = settings_for(FinetuneSettings, config, seed=config.finetune.seeds[0])
    finetune_training_cells(
        tokens=tokens,
        split=split,
        pretrained=pretrained,
        ontology=[],
        model=model,
        checkpoint=model.with_name(f"{model.name}.checkpoint"),
        settings=given,
        device=config.device,
    )


def answers(cells: ad.AnnData, bundle: FinetunedModel, scale: str) -> Outputs:
    """Ask all experts as `scbert.annotate` does, without the labels."""
    bare = ad.AnnData(cells.X, obs=cells.obs[[]], var=cells.var)
    query = query_in_memory(bare, HowToRead("X", scale), "the test")
    tokens = tokens_for(query, bundle)
    answers = each_answer(tokens, bundle, choose_device("auto"), all_experts=True)
    return joined_answers(answers).outputs


def named(test: ad.AnnData, bundle: FinetunedModel, scale: str) -> pd.DataFrame:
    """Name cells as `scbert.annotate` does, by each expert alone, and without the encoder."""
    found = answers(test, bundle, scale)
    types = np.array(bundle.types)
    table = pd.DataFrame({"cell": test.obs_names, "true": test.obs.cell_type.to_numpy(dtype=str)})
    table["scbert"] = types[found.logits.argmax(axis=1)]
    table["confidence"] = softmax(found.logits, bundle.calibration["temperature"]).max(axis=1)
    weights = bundle.calibration["out_of_fold"]["encoder_adds"]["weights_without"]
    shares = {
        name: Share(weight, bundle.committee.shares[name].temperature)
        for name, weight in weights.items()
    }
    table["without_encoder"] = types[combine(found.experts, shares).argmax(axis=1)]
    for name, logits in found.experts.items():
        table[f"expert_{name}"] = types[logits.argmax(axis=1)]
    return table


def baselines(inputs: Path) -> dict[str, np.ndarray]:
    """Fit those of rule compare on all cells that are not tested, all genes of both files."""
    cells, test = ad.read_h5ad(inputs / "counts.h5ad"), ad.read_h5ad(inputs / "test.h5ad")
    genes = [gene for gene in cells.var_names if gene in set(test.var_names)]
    learned = LabelledCells(_expression(cells, genes), cells.obs.cell_type.to_numpy(dtype=str))
    asked = _expression(test, genes)
    return {name: fit_baseline(name, learned, SPLIT_SEED).predict(asked) for name in BASELINES}


def _expression(cells: ad.AnnData, genes: list[str]) -> sparse.csr_matrix:
    counts = sparse.csr_matrix(cells.X)
    columns = cells.var_names.get_indexer(pd.Index(genes))
    return normalize(counts, np.maximum(cell_sums(counts), 1), 10_000)[:, columns]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pretrained", type=Path, default=ENCODER)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[2021, 2022, 2023])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        start_logging()
        do(tuple(options.job))
    else:
        sys.exit(main(options))
