"""A small made-up result of the benchmark, as rule score_benchmark leaves it."""

import json
import zlib

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.config import Method
from scbert.defaults import load_defaults
from scbert.steps.make_benchmark_tasks import make_benchmark_tasks
from scbert.steps.score_benchmark import score_benchmark

DEFAULTS = load_defaults(None, {})
QUICK = DEFAULTS.evaluate.model_copy(update={"bootstrap_samples": 100})
PROTOCOLS = DEFAULTS.benchmark.protocols.model_copy(
    update={
        **{"folds": 2, "new_types": 1, "min_query_cells": 5, "cells_per_type": (1, 5)},
        **{"shares_of_cells": (), "imbalance": (5,), "noise": (0.1, 0.2)},
    }
)
TYPES = np.repeat(["B cell", "<T> cell", "NK", "Mono"], [60, 50, 40, 30])
SKILL = {  # share of right labels
    **{"scbert": 0.9, "logistic_regression": 0.85, "linear_svm": 0.8, "perceptron": 0.7},
    **{"majority": 0.0, "random": 0.0},
}
ENCODERS = ("encoder", "random_encoder")  # asked of few labels alone
KINDS = {"scbert": "scbert", "majority": "control", "random": "control"}


def methods(*names):
    """Lines of the table of methods."""
    return {
        name: Method(
            method=name,
            title=name.replace("_", " ").capitalize(),
            kind="scbert" if "encoder" in name else KINDS.get(name, "baseline"),
            folder=f"scripts/methods/{name}",
            options="",
            optional="no",
            protocols="few_labels" if name in ENCODERS else "",
            setting="made up",
        )
        for name in names
    }


def make_room(root, dataset, seed, skills=None, broken=()):
    """Make the folder of a dataset and seed; `broken` holds (method, protocol) that failed."""
    skills = SKILL if skills is None else skills
    folder = root / dataset / f"seed{seed}"
    folder.mkdir(parents=True)
    names = [f"{dataset}-{n}" for n in range(len(TYPES))]
    batch = np.arange(len(TYPES)) % 3
    obs = pd.DataFrame({"cell_type": TYPES, "batch": batch.astype(str), "library_size": 9.0}, names)
    cells = ad.AnnData(sparse.csr_matrix(np.ones((len(TYPES), 2), np.float32)), obs=obs)
    cells.var_names = ["G1", "G2"]
    cells.write_h5ad(root / f"{dataset}.h5ad")
    make_benchmark_tasks([root / f"{dataset}.h5ad"], folder / "tasks", seed, PROTOCOLS)
    tasks = pd.read_csv(folder / "tasks/tasks.tsv", sep="\t", keep_default_na=False)
    for line in tasks[tasks.task != ""].to_dict("records"):
        for name, skill in skills.items():
            if name not in ENCODERS or line["protocol"] == "few_labels":
                failed = (name, line["protocol"]) in broken
                answer(folder, line["task"], name, skill, failed, (dataset, seed))
    out = {name: folder / f"{name}.tsv" for name in ("scores", "differences", "costs")}
    score_benchmark(folder, dataset, seed, list(skills), **out, settings=QUICK)
    return folder


def answer(folder, task, name, skill, failed, drawn_from):
    """Let a method answer a task, right with the chance `skill`."""
    cells = pd.read_csv(folder / f"tasks/{task}.tsv", sep="\t", dtype=str)
    taught = sorted(set(cells.cell_type[cells.part == "learned"]))
    query = cells[cells.part == "query"]
    rng = np.random.default_rng(zlib.crc32(repr((task, name, drawn_from)).encode()))
    commonest = cells.cell_type[cells.part == "learned"].value_counts().index[0]
    others = [commonest] if name == "majority" else taught
    right = rng.random(len(query)) < skill
    said = [
        true if sure and true in taught else rng.choice(others)
        for true, sure in zip(query.cell_type, right, strict=True)
    ]
    if name not in {"majority", "random"}:  # a cell that all methods contradict
        wrong = next(one for one in taught if one != query.cell_type.iloc[0])
        said[0] = wrong if query.cell.iloc[0].endswith("-0") else said[0]
    table = pd.DataFrame({"cell": query.cell, "label": said})
    if name != "linear_svm":
        for each in taught:
            table[f"p:{each}"] = [
                0.7 if label == each else 0.3 / (len(taught) - 1) for label in said
            ]
    if name == "scbert":
        table["label:discriminant"] = said
    run = {"exit": 3 * failed, "reason": "MemoryError: <none> left" * failed, "seconds": 2.5}
    run |= {"cpu_seconds": 2.0, "peak_mb": 300, "gpu_mb": None}
    run |= {"versions": {"python": "3.11", "numpy": "2.4"}}
    for kind, ending in (("answers", "tsv"), ("runs", "json")):
        (folder / kind / name).mkdir(parents=True, exist_ok=True)
        file = folder / kind / name / f"{task}.{ending}"
        if kind == "runs":
            file.write_text(json.dumps(run))
        else:
            (table.iloc[:0] if failed else table).to_csv(file, sep="\t", index=False)


def quality_of(dataset):
    """What rule read_counts writes of a file."""
    types = pd.Series(TYPES).value_counts().to_dict()
    return {
        **{"sample": dataset, "source": f"resources/{dataset}.h5ad", "sha256": "ab" * 32},
        **{"cells_kept": len(TYPES), "genes": 2, "batches": 3, "cell_types": types},
    }
