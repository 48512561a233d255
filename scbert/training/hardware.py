"""What the network runs on: processor, GPUs, driver. Goes into the bundle of what was trained."""

import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

from scbert.training.processes import number_of_processes

PROCESSORS = Path("/proc/cpuinfo")
DRIVER = Path("/proc/driver/nvidia/version")
GIBIBYTE = 2**30


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
    this process may use, each with name, memory in GiB and compute capability.
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
        "memory": round(found.total_memory / GIBIBYTE, 1),
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
