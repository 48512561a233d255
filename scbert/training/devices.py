"""On which device a step runs, and how precisely: nothing else in the package decides it.

A job that was given a GPU and cannot use it stops. It would otherwise train on the CPU for days,
while the GPU idles and is paid for.
"""

import ctypes
import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, get_args

import torch
from accelerate import Accelerator

from scbert.config import DeviceName, Precision
from scbert.training.hardware import DRIVER

COUNTS = ("SCBERT_GPUS", "SLURM_GPUS", "SLURM_GPUS_ON_NODE")  # 2, or h100:2; ours: from the rule
LISTS = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "GPU_DEVICE_ORDINAL", "CUDA_VISIBLE_DEVICES")
NO_GPU = ("", "-1", "none", "NoDevFiles")  # first in a list; older versions of Slurm write the last
CONTAINER_FILES = (Path("/.dockerenv"), Path("/run/.containerenv"))
CONTAINER_VARIABLES = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")


def choose_device(wanted: DeviceName) -> torch.device:
    """Return the device of this process, and prepare PyTorch for it.

    Parameters
    ----------
    wanted
        auto is CUDA where there is one, otherwise the CPU. Apple's mps is taken only when asked
        for: no step was tried there.

    Raises
    ------
    ValueError
        If there is no such device, the job was given a GPU that PyTorch cannot use, or a node has
        more processes than devices.
    """
    if wanted not in get_args(DeviceName):
        raise ValueError(
            f"device is {wanted!r}, but {', '.join(get_args(DeviceName))} are allowed."
        )
    if wanted == "cpu":
        return torch.device("cpu")
    if wanted == "mps":
        return _mps()
    usable, said = _ask_torch()
    if usable:
        return _cuda()
    given = given_gpu()
    if wanted == "cuda" or given:
        found = f"the job was given a GPU ({given})" if given else "device is cuda"
        raise ValueError(
            f"{found}, but PyTorch {torch.__version__} cannot use one: {_why_no_cuda(said)} To run "
            "without it, say so: device: cpu in the configuration, --device cpu, or, in Python, "
            "device='cpu'."
        )
    return torch.device("cpu")


def make_accelerator(device: torch.device, precision: Precision) -> Accelerator:
    """Join the other processes, if `torchrun` started any: by nccl on GPUs, by gloo on CPUs."""
    accelerator = Accelerator(
        mixed_precision=precision_on(device, precision), cpu=device.type == "cpu"
    )
    assert accelerator.device.type == device.type, "accelerate keeps one device for a process"
    return accelerator


def precision_on(device: torch.device, precision: Precision) -> Literal["no", "bf16"]:
    """Return what `auto` is on a device: bf16 on a GPU that computes in it, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "no"  # few CPUs compute faster in bf16, and results on them stay what they were


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return a block in which products are computed in the precision; weights stay float32."""
    if precision_on(device, precision) == "no":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def given_gpu() -> str:
    """Return which variable says that this job was given a GPU, as NAME=VALUE; empty: none does."""
    for name in COUNTS:
        value = os.environ.get(name, "").strip()
        if any(part.rpartition(":")[2].strip() not in ("", "0") for part in value.split(",")):
            return f"{name}={value}"
    for name in LISTS:
        value = os.environ.get(name, "").strip()
        if value.partition(",")[0].strip() not in NO_GPU:  # CUDA reads no further than a -1
            return f"{name}={value}"
    return ""


def _ask_torch() -> tuple[bool, str]:
    """Return whether CUDA can be used, and what PyTorch warns of while it finds out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    return usable, " ".join(str(warning.message) for warning in caught)


def _cuda() -> torch.device:
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    processes, devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if processes > devices:
        raise ValueError(
            f"{processes} processes were started on this node, but only {devices} GPU(s) are "
            f"visible (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')}), and each "
            "process needs one of its own. Start as many as there are devices "
            "(python -m scbert.training.launch does), or ask for more GPUs."
        )
    # TF32 for float32 products outside autocast: on tensor cores several times as fast, with the
    # 10-bit mantissa of bf16's better brother; sums stay float32.
    torch.set_float32_matmul_precision("high")
    # With a mask cuDNN's attention is preferred on recent GPUs, and plans anew, for up to a second,
    # whenever a batch has another shape.
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def _mps() -> torch.device:
    if not torch.backends.mps.is_available():
        raise ValueError(
            f"device is mps, but PyTorch {torch.__version__} finds no Apple GPU here. Use "
            "device: auto or device: cpu, or a Mac with Apple silicon and macOS 14 or newer."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "device is mps and several processes were started, but Apple GPUs cannot talk to each "
            "other by nccl or gloo. Start one process."
        )
    return torch.device("mps")


def _why_no_cuda(said: str) -> str:
    """Say why PyTorch finds no CUDA, and what to do; `said` is what it warned of."""
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            "it is a build for CPUs only. Install one with CUDA (pip install torch; conda: set "
            "CONDA_OVERRIDE_CUDA=12.9 before the environment is made on a machine without a GPU)."
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.partition(",")[0].strip() in NO_GPU:
        return f"CUDA_VISIBLE_DEVICES is {visible!r}, which hides every GPU. Unset it."
    if not _has_driver_library():
        return _why_no_driver()
    version = DRIVER.read_text().splitlines()[0] if DRIVER.is_file() else "of unknown version"
    return (
        f"it was built for CUDA {torch.version.cuda}, and the driver ({version}) is too old for "
        "that, or shows this job no GPU. Compare `nvidia-smi`; update the driver or install a "
        f"PyTorch for an older CUDA. PyTorch says: {said or 'nothing'}"
    )


def _why_no_driver() -> str:
    inside = any(os.environ.get(name) for name in CONTAINER_VARIABLES)
    if inside or any(file.exists() for file in CONTAINER_FILES):
        return (
            "this container has no NVIDIA driver (libcuda.so.1) in it. Start it with the host's: "
            "apptainer exec --nv, docker run --gpus all, snakemake --apptainer-args=--nv."
        )
    return (
        "this machine has no NVIDIA driver (libcuda.so.1). `nvidia-smi` must list a GPU: install "
        "the driver, or send the job to a node with a GPU."
    )


def _has_driver_library() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
