"""Hardware of the network: processor, GPUs, driver, and how fast those could be at most."""

import math
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from scbert.training.processes import number_of_processes, sum_over_processes

PROCESSORS = Path("/proc/cpuinfo")
DRIVER = Path("/proc/driver/nvidia/version")
GIGABYTE = 1e9


@dataclass(frozen=True)
class Peak:
    """Floating-point operations per second of dense matrix products, as the data sheet has them.

    `half` is bfloat16, or float16 where there is no bfloat16; `tensor` TensorFloat-32, or float32
    where there is none.
    """

    half: float
    tensor: float
    full: float


H100 = Peak(989e12, 494e12, 67e12)  # SXM; H200 and GH200 compute as fast


# By words of the name, the first that fits. Source: NVIDIA's data sheets, without sparsity; of
# the GeForce cards the architecture papers, with sums in float32.
PEAKS: dict[tuple[str, ...], Peak] = {
    ("B200",): Peak(2250e12, 1125e12, 75e12),
    ("GH200",): H100,
    ("H200", "NVL"): Peak(835e12, 417e12, 60e12),
    ("H200",): H100,
    ("H100", "PCIE"): Peak(756e12, 378e12, 51e12),
    ("H100", "NVL"): Peak(835e12, 417e12, 60e12),
    ("H100",): H100,
    ("A100",): Peak(312e12, 156e12, 19.5e12),
    ("A40",): Peak(149.7e12, 74.8e12, 37.4e12),
    ("A30",): Peak(165e12, 82e12, 10.3e12),
    ("A10",): Peak(125e12, 62.5e12, 31.2e12),
    ("L40S",): Peak(362e12, 183e12, 91.6e12),
    ("L40",): Peak(181e12, 90.5e12, 90.5e12),
    ("L4",): Peak(121e12, 60e12, 30.3e12),
    ("V100", "PCIE"): Peak(112e12, 14e12, 14e12),
    ("V100",): Peak(125e12, 15.7e12, 15.7e12),
    ("T4",): Peak(65e12, 8.1e12, 8.1e12),
    ("RTX", "A6000"): Peak(154.8e12, 77.4e12, 38.7e12),
    ("RTX", "4090"): Peak(165e12, 82.6e12, 82.6e12),
    ("RTX", "3090"): Peak(71e12, 35.6e12, 35.6e12),
}


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what this process computes on, beside what there is on its machine.

    Parameters
    ----------
    device
        Where the network is; a machine may have GPUs that are not used.

    Returns
    -------
    device, its kind; processes, of the run; processor; threads, of this process; and, with CUDA,
    cuda and cudnn, the versions of torch; driver, None where it is not told; and gpus, those that
    this process may use, each with name, memory and compute capability.
    """
    return {
        "device": device.type,
        "processes": number_of_processes(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        **(_cuda() if torch.cuda.is_available() else {}),
    }


def _cuda() -> dict[str, Any]:
    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": _driver(),
        "gpus": [_gpu(number) for number in range(torch.cuda.device_count())],
    }


def _gpu(number: int) -> dict[str, Any]:
    found = torch.cuda.get_device_properties(number)
    return {
        "name": found.name,
        "memory_gb": round(found.total_memory / GIGABYTE, 1),
        "compute_capability": f"{found.major}.{found.minor}",
    }


def _processor() -> str:
    """Return the model as Linux tells it; ARM has none there, and other systems no such file."""
    text = PROCESSORS.read_text() if PROCESSORS.is_file() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _driver() -> str | None:
    """Return the version of the driver; in some containers only its program is there, or none."""
    if DRIVER.is_file():
        found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", DRIVER.read_text())
        return found[1] if found else None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.partition("\n")[0].strip() or None


def peak_of_run(device: torch.device, precision: Literal["no", "bf16"]) -> float | None:
    """Return the most operations per second that the devices of all processes could do.

    All processes must call this together.

    Returns
    -------
    None if one of them is not a GPU, or one whose data sheet is not known here.
    """
    own = None
    if device.type == "cuda":
        own = peak_of(torch.cuda.get_device_name(device), precision)
    total = sum_over_processes(np.array([math.nan if own is None else own]))
    return None if math.isnan(total[0]) else float(total[0])


def peak_of(name: str, precision: Literal["no", "bf16"]) -> float | None:
    """Return the most operations per second of a GPU in this precision; None: not known."""
    words = set(re.split(r"[\s-]+", name.upper()))
    found = next((peak for needed, peak in PEAKS.items() if words.issuperset(needed)), None)
    if found is None or "LAPTOP" in words:  # named as the card, and slower
        return None
    if precision == "bf16":
        return found.half
    return found.tensor if torch.backends.cuda.matmul.fp32_precision == "tf32" else found.full


def gpu_memory(device: torch.device) -> dict[str, float]:
    """Return the most memory that tensors have taken on this process's GPU, in GB; none on CPUs."""
    if device.type != "cuda":
        return {}
    return {"peak_memory_gb": round(torch.cuda.max_memory_allocated(device) / GIGABYTE, 3)}
