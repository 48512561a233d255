"""Stage D: training steps and inference of the whole network at the paper's size."""

import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import torch
from gpu_clock import once, profiled, timed
from gpu_data import corpus, store_of
from gpu_model import (
    Stepper,
    accelerator_on,
    batches_of,
    compile_network,
    logits,
    network,
    new_model,
    on,
)
from gpu_stage import Job, Record
from paper_size import ALL_GENES
from performer_pytorch import PerformerLM
from torch.nn import functional

from scbert.network.flops import FORWARD, TRAINING, step_flop
from scbert.tokens.store import TokenStore, open_store
from scbert.training.hardware import H100

TOKENS, SMALL_TOKENS = 65_536, 1_024
N_BATCHES = 3
PEAK_TFLOP = H100.half / 1e12  # and an H200's; NVIDIA's data sheet
COMPILED = "exact, packed, compiled"
EAGER = ("exact, packed", "FAVOR+")
VARIANTS = {
    "exact, packed": {"attention": "exact"},
    "FAVOR+": {"attention": "performer"},
    COMPILED: {"attention": "exact"},
}


def run(record: Record, job: Job) -> None:
    """Measure each network; what is compiled comes last, for that may take long."""
    store = real_cells(job)
    for name in EAGER:
        measure_all(name, store, record, job)
    for cells in (1,) if job.small else (2, 1):
        record.measure(f"performer-pytorch bf16, {cells} cell(s), training", peer, cells, True, job)
        record.measure(f"performer-pytorch bf16, {cells} cell(s), forward", peer, cells, False, job)
    measure_all(COMPILED, store, record, job)


def measure_all(name: str, store: TokenStore, record: Record, job: Job) -> None:
    """Measure a network in training and inference, and look at its kernels."""
    ready = Ready(name, store, job)
    record.measure(f"{name}, training", measure, ready, "training", job)
    record.measure(f"{name}, profile of a step", profile_step, ready, job)
    record.measure(f"{name}, forward", measure, ready, "forward", job)


def real_cells(job: Job) -> TokenStore:
    """Return the carried cells; a store of log-normal lengths if there is none."""
    tokens = corpus(job.data, "without", 0).tokens
    if tokens.exists():
        return open_store(tokens)
    drawn = np.random.default_rng(0).lognormal(np.log(900), 0.6, 1_000)
    return store_of(np.clip(drawn, 200, 5_000).astype(int).tolist(), ALL_GENES - 1)


class Ready:
    """A network on the device, what trains it, and the cells of full batches."""

    def __init__(self, name: str, store: TokenStore, job: Job) -> None:
        torch.set_float32_matmul_precision("high")
        self.settings, compiled = network(job.small, **VARIANTS[name]), name == COMPILED
        self.model = new_model(self.settings, store.measured.shape[1]).to(job.device)
        if compiled:
            compile_network(self.model, job.device)
        tokens = SMALL_TOKENS if job.small else TOKENS
        cells = batches_of(store, tokens, "packed" in name, compiled)
        plan = cells.plan(np.arange(len(store)), np.random.default_rng(0))
        lengths = cells.lengths()
        self.plan = sorted(plan, key=lambda rows: -int(lengths[rows].sum()))[:N_BATCHES]
        self.lengths = [lengths[rows].astype(float) for rows in self.plan]
        self.stepper = Stepper(self.model, cells, accelerator_on(job.device))

    def training(self) -> Callable[[], None]:
        """Return a training step on the next of the batches."""
        self.model.train()
        turn = cycle([self.stepper.make(rows) for rows in self.plan])
        return lambda: self.stepper.step(next(turn))

    def forward(self, device: torch.device) -> Callable[[], None]:
        """Return inference on the next of the batches, which are on the device."""
        self.model.eval()
        made = [
            self.stepper.optimizer_steps.task.make(rows, torch.Generator()) for rows in self.plan
        ]
        turn = cycle([on(batch, device) for batch in made])

        def work() -> None:
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
                logits(self.model, next(turn))

        return work


def measure(ready: Ready, mode: str, job: Job) -> dict[str, Any]:
    """Time a step; the first apart, in which a compiled network is compiled."""
    started = time.perf_counter()
    work = ready.training() if mode == "training" else ready.forward(job.device)
    make_ms = 1e3 * (time.perf_counter() - started) / len(ready.plan)
    first_ms, _ = once(work, job.device)
    times = timed(work, job.device, warm_up=2 * len(ready.plan))
    cells = float(np.mean([len(some) for some in ready.lengths]))
    tokens = float(np.mean([some.sum() for some in ready.lengths]))
    passes = TRAINING if mode == "training" else FORWARD
    flop = float(np.mean([step_flop(ready.settings, some, passes) for some in ready.lengths]))
    return {
        "cells": cells,
        "tokens": tokens,
        "cells_per_s": 1e3 * cells / times["ms"],
        "tokens_per_s": 1e3 * tokens / times["ms"],
        **times,
        "make_ms": make_ms,
        "first_s": first_ms / 1e3,
        **shares(flop, times["ms"], job),
    }


def profile_step(ready: Ready, job: Job) -> dict[str, Any]:
    """Return the kernels of a training step."""
    work = ready.training()
    for _ in range(2 * len(ready.plan)):
        work()
    return profiled(work, job.device)


def shares(flop: float, ms: float, job: Job) -> dict[str, float]:
    """Return TFLOP/s, and their share of the data sheet's and of the measured product's."""
    per_second = flop / ms / 1e9
    product = job.found("A", "matrix product bf16").get("tflop_per_s")
    found = {"tflop_per_s": per_second, "mfu": per_second / PEAK_TFLOP}
    return found | ({"of_matrix_product": per_second / product} if product else {})


def peer(cells: int, training: bool, job: Job) -> dict[str, Any]:
    """Time performer-pytorch's network at all genes, under autocast."""
    settings, n_genes = network(job.small), 64 if job.small else ALL_GENES
    model = PerformerLM(
        num_tokens=7,
        max_seq_len=n_genes,
        dim=settings.dim,
        depth=settings.depth,
        heads=settings.heads,
        dim_head=settings.dim_head,
        nb_features=settings.n_features,
        ff_mult=settings.ff_mult,
        rotary_position_emb=False,  # with it, the peer would do work that scBERT does not
    ).to(job.device)
    model.train(training)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(0, 6, (cells, n_genes), device=job.device)

    def work() -> None:
        with torch.set_grad_enabled(training), torch.autocast(job.device.type, torch.bfloat16):
            found = model(tokens)
        if training:
            optimizer.zero_grad()
            functional.cross_entropy(found.flatten(0, 1).float(), tokens.flatten()).backward()
            optimizer.step()

    times = timed(work, job.device)
    flop = step_flop(settings, np.full(cells, n_genes), TRAINING if training else FORWARD)
    rate = {"cells_per_s": 1e3 * cells / times["ms"], "tokens": cells * n_genes}
    return {"cells": cells, **rate, **times, **shares(flop, times["ms"], job)}
