"""Stage B: the same numbers as float64 on the CPU, no waiting inside a step, the same run again.

Errors are scaled: |found - reference| / |reference|, of all logits and of all gradients together.
"""

import copy
import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_data import store_of
from gpu_model import (
    Stepper,
    accelerator_on,
    batches_of,
    bins_of,
    network,
    new_model,
    on,
    real_logits,
    train,
)
from gpu_stage import Job, Record, Unsupported
from torch import Tensor, nn
from torch.nn import functional

from scbert.training.mini_batch import MiniBatch

ATTENTIONS: dict[str, dict[str, Any]] = {
    "FAVOR+": {"attention": "performer"},
    "FAVOR+, stabilizer of the cell": {"attention": "performer", "stabilizer": "cell"},
    "FAVOR+, qk_rms": {"attention": "performer", "qk_rms": 0.5},
    "FAVOR+, cell, qk_rms": {"attention": "performer", "stabilizer": "cell", "qk_rms": 0.5},
    "exact": {"attention": "exact"},
    "exact, qk_rms": {"attention": "exact", "qk_rms": 0.5},
}
# Type, torch's precision of float32 products, and how much may differ (None: only reported).
MODES: dict[str, tuple[torch.dtype, str, float | None]] = {
    "fp64": (torch.float64, "highest", 1e-9),
    "fp32": (torch.float32, "highest", 1e-4),
    "TF32": (torch.float32, "high", None),
    "bf16": (torch.bfloat16, "high", 2e-2),
}
LENGTHS, SMALL_LENGTHS = (0, 37, 300, 900), (0, 7, 30, 60)
TRAINED = ("exact", "FAVOR+")
STOP_AFTER = 20  # steps of a run


def run(record: Record, job: Job) -> None:
    """Measure."""
    for name in TRAINED:
        record.measure(f"{name}: against float64", against_float64, name, record, job)
    record.measure("exact: packed against padded", packed_against_padded, job)
    for name in TRAINED:
        record.measure(f"{name}: host waits for the device", syncs, name, job)
    for name in TRAINED:
        record.measure(f"{name}: the same run again, and a resumed one", again, name, job)
    for name in ATTENTIONS:
        if name not in TRAINED:
            record.measure(f"{name}: against float64", against_float64, name, record, job)


def four_cells(name: str, packed: bool, job: Job) -> tuple[nn.Module, MiniBatch]:
    """Return a network and cells of four lengths, one of them without any gene."""
    lengths, n_genes = (SMALL_LENGTHS, 80) if job.small else (LENGTHS, 16_906)
    cells = batches_of(store_of(list(lengths), n_genes), 65_536, packed)
    model = new_model(network(job.small, **ATTENTIONS[name]), n_genes)
    return model.train(), cells.make(np.arange(len(lengths)))


def against_float64(name: str, record: Record, job: Job) -> dict[str, Any]:
    """Compare each precision on the device; each is a row of its own too."""
    reference = logits_and_gradients(*four_cells(name, False, job), "fp64", torch.device("cpu"))
    model, batch = four_cells(name, name.startswith("exact"), job)
    for mode in MODES:
        record.measure(f"{name}, {mode}", compare, model, batch, mode, reference, job)
    rows = [record.found[f"{name}, {mode}"] for mode in MODES if MODES[mode][2] is not None]
    if any(row["status"] == "error" for row in rows):
        raise RuntimeError("a precision failed; see its own row")
    return {"met": all(row.get("met") is True for row in rows)}


def compare(
    model: nn.Module, batch: MiniBatch, mode: str, reference: dict[str, Tensor], job: Job
) -> dict[str, Any]:
    """Return the errors of a precision."""
    found = logits_and_gradients(copy.deepcopy(model), batch, mode, job.device)
    gradients = [key for key in reference if key != "logits"]
    norms = {key: float(reference[key].norm()) for key in gradients}
    total = torch.tensor(list(norms.values())).norm().item()
    apart = {key: float((found[key] - reference[key]).norm()) for key in gradients}
    seen = [key for key in gradients if norms[key] > 1e-3 * total]
    worst = max(seen, key=lambda key: apart[key] / norms[key])
    errors = {
        "logits": scaled(found["logits"], reference["logits"]),
        "gradients": torch.tensor(list(apart.values())).norm().item() / total,
        "worst_gradient": apart[worst] / norms[worst],
    }
    tolerance = MODES[mode][2]
    finite = all(bool(tensor.isfinite().all()) for tensor in found.values())
    met = None
    if tolerance is not None:  # NaN is smaller than nothing
        met = finite and all(errors[name] <= tolerance for name in ("logits", "gradients"))
    return {**errors, "worst": worst, "finite": finite, "tolerance": tolerance, "met": met}


def scaled(found: Tensor, reference: Tensor) -> float:
    """Return |found - reference| / |reference|."""
    return float((found - reference).norm() / reference.norm())


def logits_and_gradients(
    model: nn.Module, batch: MiniBatch, mode: str, device: torch.device
) -> dict[str, Tensor]:
    """Return in float64 on the CPU the logits of the tokens, and the gradient of each weight."""
    dtype, precision, _ = MODES[mode]
    half = dtype is torch.bfloat16
    model = model.to(device, torch.float32 if half else dtype)
    torch.set_float32_matmul_precision(precision)
    here = on(batch, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        found = real_logits(model, here)
    targets = bins_of(batch).to(device)
    functional.cross_entropy(found.to(torch.float32 if half else dtype), targets).backward()
    torch.set_float32_matmul_precision("highest")
    gradients = {
        name: weight.grad.double().cpu()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }
    return {"logits": found.detach().double().cpu(), **gradients}


def packed_against_padded(job: Job) -> dict[str, Any]:
    """Compare packed cells with the same cells padded, in float32 and bf16, on the device."""
    made = [four_cells("exact", packed, job) for packed in (True, False)]
    found: dict[str, Any] = {}
    for mode in ("fp32", "bf16"):
        packed, padded = (
            logits_and_gradients(copy.deepcopy(model), batch, mode, job.device)
            for model, batch in made
        )
        found |= {
            f"logits_{mode}": scaled(packed["logits"], padded["logits"]),
            f"gradients_{mode}": max(
                scaled(packed[key], padded[key]) for key in padded if padded[key].norm() > 1e-4
            ),
        }
    return found


def _toy(name: str, job: Job) -> tuple[nn.Module, Any]:
    """Return the paper's network, or a tiny one, and some 24 batches of cells for two epochs."""
    lengths = [10 + number % 50 for number in range(180 if job.small else 5_000)]
    tokens = 512 if job.small else 16_384
    cells = batches_of(store_of(lengths, 400), tokens, name.startswith("exact"))
    return new_model(network(job.small, **ATTENTIONS[name]), 400), cells


def syncs(name: str, job: Job) -> dict[str, Any]:
    """Count the places where a training step makes the host wait for the device."""
    if job.device.type != "cuda":
        raise Unsupported("only a GPU works while the host goes on")
    model, cells = _toy(name, job)
    stepper = Stepper(model, cells, accelerator_on(job.device))
    plan = cells.plan(np.arange(len(cells.store)), None)
    batches = [stepper.make(rows) for rows in plan[-3:]]
    for batch in batches[:2]:
        stepper.step(batch)
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        stepper.step(batches[2])
        torch.cuda.set_sync_debug_mode("default")
    places = Counter(
        f"{Path(one.filename).parent.name}/{Path(one.filename).name}:{one.lineno}"
        for one in caught
        if "synchroniz" in str(one.message) and "prototype" not in str(one.message)
    )
    return {
        "syncs": sum(places.values()),
        "places": [{"place": place, "times": times} for place, times in places.items()],
    }


def again(name: str, job: Job) -> dict[str, Any]:
    """Train twice with one seed, and once with a stop after 20 steps; compare the weights."""
    weights: dict[str, list[Tensor]] = {}
    plan: dict[str, list[int | None]] = {
        "first": [None],
        "second": [None],
        "resumed": [STOP_AFTER, None],
    }
    for run_name, stops in plan.items():
        folder = job.work / f"checkpoint_{run_name}"
        for stop_after in stops:
            model, cells = _toy(name, job)
            weights[run_name] = train(model, cells, job.device, folder, stop_after)
        shutil.rmtree(folder, ignore_errors=True)
    return {
        f"{run_name}_{key}": value
        for run_name in ("second", "resumed")
        for key, value in difference(weights[run_name], weights["first"]).items()
    }


def difference(found: list[Tensor], first: list[Tensor]) -> dict[str, Any]:
    """Return whether weights have the same bits, and how far they are apart."""
    most = max(float((a - b).abs().max()) for a, b in zip(found, first, strict=True))
    both = torch.cat([a.flatten() for a in found]), torch.cat([b.flatten() for b in first])
    return {"same_bits": most == 0, "max_difference": most, "scaled": scaled(*both)}
