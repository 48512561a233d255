"""Stages E, E2 and E3: the product's pretraining on the carried cells, to the end of its schedule.

E: the paper's size on the cells without the query's study; E2, E3: the small encoder, on those and
on all cells. All with exact attention on packed cells.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gpu_clock import wait
from gpu_data import WIDTH, corpus
from gpu_model import (
    CONFIG,
    TINY,
    Stepper,
    accelerator_on,
    batches_of,
    config_of,
    device_name,
    new_model,
    pretrain_settings,
    write_bundle,
)
from gpu_stage import Job, Record
from gpu_weights import newest_checkpoint, write_pieces
from safetensors.torch import load_file

from scbert.config import PretrainSettings
from scbert.steps.pretrain import pretrain
from scbert.tokens.store import TokenStore, open_store

RUNS = {"E": ("paper", "without"), "E2": ("small", "without"), "E3": ("small", "all")}
FILES = {"paper": "panglaodb.yaml", "small": "encoder.yaml"}
TOKENS_PER_BATCH = {"paper": 65_536, "small": 32_768}  # of so few cells, small ones need many steps
MARGIN = 0.8  # of the time that is left is planned for
BEFORE_AND_AFTER = 12.0  # seconds: the store is checked, predictors asked, the bundle written
TO_WRITE = 10.0  # seconds before the end, at which a run that is late is told to stop
EXPECTED_CELLS_PER_S = 2_000.0  # at the paper's size, where stage D has no number
WARM_UP, TIMED = 10, 30  # steps that tell how fast the small encoder is
COMPILED_TWICE = 2.0  # for training and for validation; what D compiled is found again, in part
MOST_EPOCHS, SMALL_EPOCHS = 60, 2


def run(record: Record, job: Job) -> None:
    """Pretrain."""
    size, variant = RUNS[job.stage]
    record.measure(f"pretraining, {size}, {variant}", measure, size, variant, record, job)


def settings_of(size: str, epochs: int, job: Job, compiled: bool = False) -> PretrainSettings:
    """Return what to train, and for how long."""
    optimizer = {
        "epochs": epochs,
        "precision": "bf16",
        "tokens_per_batch": 2_048 if job.small else TOKENS_PER_BATCH[size],
        "log_steps": 20,
    }
    if size == "paper":
        optimizer["learning_rate"] = 5e-4  # a hundredth of the original's steps
    pretraining = {"optimizer": optimizer, "validation_fraction": 0.1, "compile": compiled}
    changes: dict[str, Any] = {"pretrain": pretraining}
    if size == "paper":
        changes["network"] = {"attention": "exact", "qk_rms": None}
    if job.small:
        changes |= {"network": {"attention": "exact", **TINY}, "gene2vec": {"dim": WIDTH}}
    return pretrain_settings(config_of(CONFIG / FILES[size], **changes))


def schedule(size: str, store: TokenStore, record: Record, job: Job) -> tuple[int, bool]:
    """Return how many epochs fit by the speed that is measured, and whether to compile."""
    if job.small:
        return SMALL_EPOCHS, False
    cells = len(store)
    eager, compiled = (
        job.found("D", f"exact, packed{more}, training") for more in ("", ", compiled")
    )
    if size == "small":
        eager, compiled = {"cells_per_s": speed_of(settings_of(size, 1, job), store, job)}, {}
    usable = MARGIN * (record.left() - BEFORE_AND_AFTER)
    done = [usable * eager.get("cells_per_s", EXPECTED_CELLS_PER_S)]
    if "cells_per_s" in compiled:
        compiling = COMPILED_TWICE * compiled["first_s"]
        done.append((usable - compiling) * compiled["cells_per_s"])
    return max(1, min(MOST_EPOCHS, int(max(done) / cells))), len(done) == 2 and done[1] > done[0]


def speed_of(settings: PretrainSettings, store: TokenStore, job: Job) -> float:
    """Return the cells per second of some training steps."""
    model = new_model(settings.network, store.measured.shape[1]).to(job.device)
    cells = batches_of(store, settings.pretrain.optimizer.tokens_per_batch, True)
    stepper = Stepper(model, cells, accelerator_on(job.device))
    plan = cells.plan(np.arange(len(store)), np.random.default_rng(0))[:WARM_UP]
    batches = [stepper.make(rows) for rows in plan]
    for batch in batches:
        stepper.step(batch)
    wait(job.device)
    started = time.perf_counter()
    for number in range(TIMED):
        stepper.step(batches[number % len(batches)])
    wait(job.device)
    cells_per_step = float(np.mean([len(rows) for rows in plan]))
    return TIMED * cells_per_step / (time.perf_counter() - started)


def measure(size: str, variant: str, record: Record, job: Job) -> dict[str, Any]:
    """Pretrain, follow the history on the way, and send the weights home."""
    given = corpus(job.data, variant, settings_of(size, 1, job).network.dim)
    store = open_store(given.tokens)
    cells = len(store)
    epochs, compiled = schedule(size, store, record, job)
    settings = settings_of(size, epochs, job, compiled)
    folder, checkpoint = job.work / f"{job.stage}_bundle", job.work / f"{job.stage}_checkpoint"
    started, stopped = time.monotonic(), False
    with following(checkpoint / "history.jsonl", record, cells), stop_in_time(record):
        try:
            places = (given.tokens, given.vocabulary, given.gene2vec, folder, checkpoint)
            pretrain(*places, settings, device_name(job.device))
        except SystemExit:
            stopped = True
    seconds = time.monotonic() - started
    history = record.found.get("history", {}).get("history", [])
    if stopped and not folder.exists():
        write_bundle(folder, given, settings, newest_checkpoint(checkpoint))
    weights = load_file(folder / "weights.safetensors")
    found: dict[str, Any] = {
        "epochs": epochs,
        "compiled": compiled,
        "cells": cells,
        "pretraining_s": seconds,
        "stopped_early": stopped,
        "weights_count": sum(tensor.numel() for tensor in weights.values()),
        **write_pieces(weights, job.out, f"weights_{job.stage}"),
        "config": json.loads((folder / "config.json").read_text()),
    }
    if stopped:
        return found
    lines = (folder / "history.jsonl").read_text().splitlines()
    history = [line for line in history if "epoch" not in line] + [json.loads(x) for x in lines]
    record.put("history", {"status": "ok", "history": history})
    validation = json.loads((folder / "validation.json").read_text())
    return found | {
        "skill": validation["skill"]["mean"],
        "skill_low": validation["skill"]["low"],
        "skill_high": validation["skill"]["high"],
        "loss": validation["loss"],
        "epochs_in_record": len(lines),
        "validation": validation,
    }


@contextmanager
def following(path: Path, record: Record, cells: int) -> Iterator[None]:
    """Copy the history into the record every few seconds, as far as it has come."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(3):
            copy_history()

    def copy_history() -> None:
        if path.is_file():
            lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
            found = [json.loads(line) for line in lines]
            record.put("history", {"status": "ok", "cells": cells, "history": found})

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def stop_in_time(record: Record) -> Iterator[None]:
    """Tell this process to stop before its limit kills it: the loop then keeps its weights."""
    seconds = max(1.0, record.left() - TO_WRITE)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
