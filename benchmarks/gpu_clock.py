"""Time on the device and on the host, apart: a launch returns before the kernel has run."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

REPEATS, LEAST_REPEATS = 10, 3
TOP_KERNELS = 15


def wait(device: torch.device) -> None:
    """Wait until the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def once(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the milliseconds until the device is done, and those until the host is free again."""
    wait(device)
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        started = time.perf_counter()
        start.record()
        work()
        end.record()
        host = 1e3 * (time.perf_counter() - started)
        wait(device)
        return start.elapsed_time(end), host
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    return 1e3 * seconds, 1e3 * seconds


def timed(
    work: Callable[[], object], device: torch.device, warm_up: int = 3, most_seconds: float = 2.0
) -> dict[str, float]:
    """Return the medians of device and host time, and the device memory at its peak.

    Ten runs after `warm_up`, fewer where they would take longer than `most_seconds`.
    """
    for _ in range(max(1, warm_up)):
        first, _ = once(work, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    repeats = int(min(REPEATS, max(LEAST_REPEATS, 1e3 * most_seconds / max(first, 1e-3))))
    runs = [once(work, device) for _ in range(repeats)]
    device_ms, host_ms = (statistics.median(column) for column in zip(*runs, strict=True))
    return {"ms": device_ms, "host_ms": host_ms, "gb": peak_gb(device)}


def peak_gb(device: torch.device) -> float:
    """Return the peak of the memory that tensors took; 0 on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0


def profiled(work: Callable[[], object], device: torch.device, steps: int = 3) -> dict[str, Any]:
    """Return per step the time in kernels, their number, and those that take most of it."""
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    wait(device)
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            work()
        wait(device)
    kernels = []
    for event in profiler.key_averages():
        if cuda and event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        total = event.self_device_time_total if cuda else event.self_cpu_time_total
        kernels.append({"kernel": event.key[:90], "ms": total / 1e3 / steps, "calls": event.count})
    kernels.sort(key=lambda kernel: -kernel["ms"])
    return {
        "kernel_ms": sum(kernel["ms"] for kernel in kernels),
        "launches": sum(kernel["calls"] for kernel in kernels) / steps,
        "kernels": [
            {**kernel, "calls": kernel["calls"] / steps} for kernel in kernels[:TOP_KERNELS]
        ],
    }
