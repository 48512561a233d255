"""Stage F: fine-tuning and annotation with the product, part by part, and GPU against CPU.

First the paper's way, the encoder alone with a head, then the default: all experts.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_data import LABEL, QUERY, REFERENCE, corpus
from gpu_model import config_of, device_name, outputs_on, write_bundle
from gpu_pretrain import settings_of
from gpu_stage import Job, Record, Unsupported

from scbert.calibration.confidence import softmax
from scbert.cells.how_to_read import HowToRead
from scbert.cells.query import query_in_memory
from scbert.cells.read import read_cells
from scbert.config import Config, FinetuneSettings, settings_for
from scbert.evidence.test_scores import evaluate_scores
from scbert.steps.annotate_file import annotate_file
from scbert.steps.annotate_test_cells import annotate_test_cells
from scbert.steps.bin_expression import bin_expression
from scbert.steps.finetune_file import finetune_file
from scbert.steps.finetune_training_cells import finetune_training_cells
from scbert.steps.normalize_counts import normalize_counts
from scbert.steps.read_counts import read_counts
from scbert.steps.split_cells import split_cells
from scbert.training.bundle import load_finetuned
from scbert.training.labelled_file import dataset_of, reading_of
from scbert.training.query_tokens import tokens_for

COMPARED, SMALL_COMPARED = 300, 30  # cells, on the GPU and on the CPU
NAME = "reference"
PRETRAINING = ("E3", "E2", "E")  # stages that leave a model; the first that there is is fine-tuned


def run(record: Record, job: Job) -> None:
    """Measure."""
    record.measure("pretrained model", pretrained_model, job)
    record.measure("fine-tuning", fine_tune, job)
    record.measure("annotation, file to file", annotate_whole, job)
    record.measure("annotation, part by part", annotate_parts, job)
    record.measure("annotation, GPU against CPU", against_cpu, job)
    record.measure("the default, file to file", default_whole, job)


def pretrained_model(job: Job) -> dict[str, Any]:
    """Take the model of an earlier stage; where there is none, one with random weights."""
    for stage in PRETRAINING:
        if encoder_of(job, stage).exists():
            encoder_of(job, stage).rename(job.work / "F_encoder")
            return {"from": f"stage {stage}"}
    settings = settings_of("paper", 1, job)
    given = corpus(job.data, "without", settings.network.dim)
    write_bundle(job.work / "F_encoder", given, settings, None)
    return {"from": "random weights"}


def encoder_of(job: Job, stage: str) -> Path:
    """Return where a stage leaves its pretrained model."""
    return job.work / f"{stage}_bundle"


def config_here(job: Job) -> Config:
    """Return how to fine-tune: the network with the paper's head, batches that fill a GPU."""
    optimizer = {
        "epochs": 2 if job.small else 8,
        "learning_rate": 5e-4,
        "tokens_per_batch": 2_048 if job.small else 16_384,
        "precision": "bf16",
    }
    changes = {"optimizer": optimizer, "experts": ["encoder"], "head": "conv"}
    counts = {"min_genes": 5} if job.small else {}
    return config_of(finetune=changes, counts=counts)


class Parts:
    """Seconds of the parts of a piece of work, one after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.since = time.perf_counter()

    def end(self, name: str) -> None:
        """End a part."""
        now = time.perf_counter()
        self.seconds[f"{name}_s"] = now - self.since
        self.since = now


def fine_tune(job: Job) -> dict[str, Any]:
    """Read, split, tokenize, fine-tune, and score the test cells."""
    config, folder, parts = config_here(job), job.work / "finetune", Parts()
    folder.mkdir()
    pretrained, split, counts = job.work / "F_encoder", folder / "split.tsv", folder / "counts.h5ad"
    expression, genes = folder / f"{NAME}.h5ad", pretrained / "genes.tsv"
    dataset = dataset_of(job.data / REFERENCE, HowToRead("X", "counts"), label_key=LABEL)
    reading = reading_of(dataset, config)
    read_counts(job.data / REFERENCE, counts, folder / "quality.json", reading)
    split_cells(counts, split, config.split, test=True)
    parts.end("reading")
    normalize_counts(counts, genes, expression, folder / "overlap.json", config.normalization)
    bin_expression([expression], genes, folder / "tokens" / NAME, config.binning)
    parts.end("tokens")
    settings = settings_for(FinetuneSettings, config, seed=config.finetune.seeds[0])
    device = device_name(job.device)
    tokens, model = folder / "tokens" / NAME, job.work / "F_model"
    finetune_training_cells(
        tokens, split, pretrained, [], model, folder / "checkpoint", settings, device
    )
    parts.end("finetune")
    predictions = folder / f"seed{settings.seed}.h5ad"
    annotate_test_cells(counts, split, model, predictions, device)
    scores = evaluate_scores([predictions], split, config.evaluate)
    parts.end("evaluate")
    history = [json.loads(line) for line in (model / "history.jsonl").read_text().splitlines()]
    speeds = [epoch["cells_per_second"] for epoch in history]
    return {
        **parts.seconds,
        "epochs": len(history),
        "cells_per_s": float(np.median(speeds)),
        "waiting_share": float(np.median([epoch["waiting_share"] for epoch in history])),
        **{name: scores.scbert.scores[name].mean for name in ("macro_f1", "accuracy")},
        "history": history,
    }


def annotate_whole(job: Job) -> dict[str, Any]:
    """Annotate a file, as the command line does."""
    started = time.perf_counter()
    found = annotate_file(job.data / QUERY, job.work / "F_model", job.work / "query.h5ad")
    seconds = time.perf_counter() - started
    return {"cells": found.n_obs, "annotate_s": seconds, "cells_per_s": found.n_obs / seconds}


def annotate_parts(job: Job) -> dict[str, Any]:
    """Annotate on the device, each part timed; the network a second time, when it is warm."""
    parts = Parts()
    bundle = load_finetuned(job.work / "F_model")
    parts.end("model")
    query = query_in_memory(read_cells(job.data / QUERY), HowToRead(), "query")
    parts.end("reading")
    store = tokens_for(query, bundle).store()[0]
    parts.end("tokens")
    rows = np.arange(len(store))
    for name in ("network_first", "network"):
        outputs_on(bundle, store, rows, job.device)
        parts.end(name)
    rate = len(store) / parts.seconds["network_s"]
    return {"cells": len(store), **parts.seconds, "network_cells_per_s": rate}


def against_cpu(job: Job) -> dict[str, Any]:
    """Compare labels and probabilities of some cells on the device and on the CPU."""
    bundle = load_finetuned(job.work / "F_model")
    query = query_in_memory(read_cells(job.data / QUERY), HowToRead(), "query")
    store = tokens_for(query, bundle).store()[0]
    rows, parts, found = np.arange(SMALL_COMPARED if job.small else COMPARED), Parts(), []
    for name, device in (("device", job.device), ("cpu", torch.device("cpu"))):
        logits = outputs_on(bundle, store, rows, device).logits
        found.append(softmax(logits, bundle.calibration["temperature"]))
        parts.end(name)
    same = found[0].argmax(axis=1) == found[1].argmax(axis=1)
    apart = float(np.abs(found[0] - found[1]).max())
    return {
        "cells": len(rows),
        "same_labels": float(same.mean()),
        "max_probability_difference": apart,
        **parts.seconds,
    }


def default_whole(job: Job) -> dict[str, Any]:
    """Fine-tune and annotate as the command line does by default; the encoder is the package's."""
    if job.small:
        raise Unsupported("toy genes are none of the encoder's")
    parts, device, model = Parts(), device_name(job.device), job.work / "default_model"
    if job.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    comparison = finetune_file(job.data / REFERENCE, model, label_key=LABEL, device=device)
    parts.end("finetune")
    out = job.work / "default.h5ad"
    found = annotate_file(job.data / QUERY, model, out, device=device, all_experts=True)
    parts.end("annotate")
    peak = torch.cuda.max_memory_allocated() if job.device.type == "cuda" else 0
    ours = comparison["methods"][0]
    return {
        "cells": found.n_obs,
        **parts.seconds,
        "gpu_gb": peak / 1e9,
        "macro_f1": ours["macro_f1"]["mean"],
        "accuracy": ours["accuracy"]["mean"],
    }
