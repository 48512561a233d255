"""Stage A: what the machine is, and what it can do at best."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from gpu_clock import timed
from gpu_stage import Job, Record

PACKAGES = ("torch", "numpy", "accelerate", "performer-pytorch", "anndata", "scikit-learn")
ASKED = "name,driver_version,memory.total,clocks.sm,clocks.mem,power.limit,temperature.gpu,pstate"
PRECISIONS = {
    "bf16": (torch.bfloat16, "highest"),
    "TF32": (torch.float32, "high"),
    "fp32": (torch.float32, "highest"),
}


def run(record: Record, job: Job) -> None:
    """Measure."""
    record.measure("machine", machine, job)
    record.measure("nvidia-smi", nvidia_smi, job)
    for name in PRECISIONS:
        record.measure(f"matrix product {name}", product, name, job)
    record.measure("copy on the device", copy_on_device, job)
    record.measure("host to device, pinned", to_device, True, job)
    record.measure("host to device, not pinned", to_device, False, job)
    record.measure("launch", launch, job)


def machine(job: Job) -> dict[str, Any]:
    """Return versions and names."""
    cpu = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    found = {
        "python": sys.version.split()[0],
        "cpu": cpu[0].split(":")[1].strip() if cpu else platform.processor(),
        "cores": os.cpu_count() or 0,
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        "cuda": torch.version.cuda or "none",
        **{name: version(name) for name in PACKAGES},
    }
    if job.device.type == "cuda":
        device = torch.cuda.get_device_properties(job.device)
        found |= {
            "gpu": device.name,
            "gpu_gb": device.total_memory / 1e9,
            "multiprocessors": device.multi_processor_count,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def nvidia_smi(job: Job) -> dict[str, Any]:
    """Ask the driver; nothing is set."""
    if job.device.type != "cuda":
        return {"note": "no GPU"}
    command = ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=15).stdout
    return dict(zip(ASKED.split(","), map(str.strip, said.split(",")), strict=True))


def product(name: str, job: Job) -> dict[str, Any]:
    """Time a square product of random numbers."""
    dtype, precision = PRECISIONS[name]
    size = 256 if job.small else 8192
    torch.set_float32_matmul_precision(precision)
    a, b = (torch.randn(size, size, device=job.device, dtype=dtype) for _ in range(2))
    found = timed(lambda: a @ b, job.device)
    torch.set_float32_matmul_precision("highest")
    return {"size": size, "ms": found["ms"], "tflop_per_s": 2 * size**3 / found["ms"] / 1e9}


def copy_on_device(job: Job) -> dict[str, Any]:
    """Time a copy; bytes are counted once read and once written."""
    source = torch.randn((2**20 if job.small else 2**30), device=job.device)
    target = torch.empty_like(source)
    found = timed(lambda: target.copy_(source), job.device)
    return {"ms": found["ms"], "gb_per_s": 2 * source.nbytes / found["ms"] / 1e6}


def to_device(pinned: bool, job: Job) -> dict[str, Any]:
    """Time a copy from the host."""
    source = torch.randn(2**18 if job.small else 2**26)
    if pinned and job.device.type == "cuda":
        source = source.pin_memory()
    target = torch.empty_like(source, device=job.device)
    found = timed(lambda: target.copy_(source, non_blocking=True), job.device)
    return {"ms": found["ms"], "gb_per_s": source.nbytes / found["ms"] / 1e6}


def launch(job: Job) -> dict[str, Any]:
    """Time many kernels that have nothing to do."""
    number, x = (100 if job.small else 2000), torch.zeros(1, device=job.device)

    def work() -> None:
        for _ in range(number):
            x.add_(1)

    found = timed(work, job.device)
    return {"us_host": 1e3 * found["host_ms"] / number, "us": 1e3 * found["ms"] / number}
