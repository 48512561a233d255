"""Stage C: attention alone, 10 heads of 64, some 65,000 tokens in cells of one length."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from gpu_clock import timed
from gpu_stage import Job, Record, Unsupported
from performer_pytorch import FastAttention
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn

from scbert.network.attention import PerformerAttention

HEADS, WIDTH, FEATURES = 10, 64, 266
LENGTHS, TOKENS = (512, 900, 1024, 2048, 4096, 16_907), 65_536
SMALL_LENGTHS, SMALL_TOKENS = (16, 40), 80
LONGEST_MATH = 1024  # it holds the matrix
TRAINING = {"exact": 3.5, "FAVOR+": 3.0}  # FLOP of a training step / forward; no recomputing
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

# The most important first: what the time does not suffice for is at the end.
KERNELS = (
    "varlen_attn bf16",
    "FAVOR+ bf16",
    "FAVOR+ TF32",
    "SDPA flash bf16",
    "SDPA efficient bf16",
    "SDPA efficient, mask, bf16",
    "performer-pytorch bf16",
    "FAVOR+ fp32",
    "SDPA math bf16",
    "SDPA math, mask, bf16",
    "SDPA cudnn bf16",
    "SDPA cudnn, mask, bf16",
)
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


def run(record: Record, job: Job) -> None:
    """Measure each kernel at each length."""
    torch.backends.cuda.enable_cudnn_sdp(enabled=True)
    for kernel in KERNELS:
        for length in SMALL_LENGTHS if job.small else LENGTHS:
            if "math" not in kernel or length <= LONGEST_MATH:
                record.measure(f"{kernel}, {length}", measure, kernel, length, job)


def measure(kernel: str, length: int, job: Job) -> dict[str, Any]:
    """Time forward, and forward and backward."""
    cells = max(1, (SMALL_TOKENS if job.small else TOKENS) // length)
    half = kernel.endswith("bf16")
    torch.set_float32_matmul_precision("high" if kernel.endswith("TF32") else "highest")
    attend, inputs, around = setup(kernel, cells, length, job.device, half)
    family = "exact" if kernel.startswith(("varlen", "SDPA")) else "FAVOR+"
    flop = cells * flop_of(family, length)
    found: dict[str, Any] = {"cells": cells}

    def forward() -> None:
        with torch.no_grad(), around:
            attend(*inputs)

    def training() -> None:
        with around:
            out = attend(*inputs)
        out.backward(gradient)

    forwards = timed(forward, job.device, warm_up=2, most_seconds=0.3)
    found |= rates("forward", forwards, cells, flop)
    for tensor in inputs:
        tensor.requires_grad_()
    with around:
        gradient = torch.randn_like(attend(*inputs))
    both = timed(training, job.device, warm_up=2, most_seconds=0.5)
    torch.set_float32_matmul_precision("highest")
    return found | rates("training", both, cells, flop * TRAINING[family]) | {"gb": both["gb"]}


def rates(mode: str, times: dict[str, float], cells: int, flop: float) -> dict[str, float]:
    """Return milliseconds, microseconds of a cell, and useful TFLOP/s."""
    return {
        f"{mode}_ms": times["ms"],
        f"{mode}_us_per_cell": 1e3 * times["ms"] / cells,
        f"{mode}_tflop_per_s": flop / times["ms"] / 1e9,
    }


def flop_of(family: str, length: int) -> float:
    """Return the FLOP of a cell, forward: the products that the method needs, each once."""
    if family == "exact":
        return 4.0 * length**2 * WIDTH * HEADS
    return 8.0 * length * FEATURES * WIDTH * HEADS  # features of q and k, sums, their use


def setup(
    kernel: str, cells: int, length: int, device: torch.device, half: bool
) -> tuple[Attention, list[Tensor], AbstractContextManager[object]]:
    """Return the attention, its queries, keys and values, and what it is called inside."""
    dtype = torch.bfloat16 if half else torch.float32
    shape = (cells, HEADS, length, WIDTH)
    if kernel.startswith("varlen"):
        shape = (cells * length, HEADS, WIDTH)  # type: ignore[assignment]
    inputs = [torch.randn(shape, device=device, dtype=dtype) for _ in range(3)]
    real_BG = torch.ones(cells, length, dtype=torch.bool, device=device)
    real_BG[:, length - length // 20 :] = ~torch.tensor(kernel.startswith("SDPA"), device=device)
    if kernel.startswith("varlen"):
        starts = torch.arange(cells + 1, device=device, dtype=torch.int32) * length
        bounds = (starts, starts, length, length)
        return lambda q, k, v: _alone(varlen_attn(q, k, v, *bounds)), inputs, _no()
    if kernel.startswith("FAVOR+"):
        ours = PerformerAttention(WIDTH, FEATURES, "head", seed=0).to(device)
        around = torch.autocast(device.type, torch.bfloat16) if half else _no()
        return lambda q, k, v: ours(q, k, v, real_BG), inputs, around
    if kernel.startswith("performer-pytorch"):
        peer = FastAttention(WIDTH, FEATURES).to(device)
        return peer, inputs, _no()
    mask = real_BG[:, None, None, :] if "mask" in kernel else None
    backend = BACKENDS[kernel.split()[1].strip(",")]
    if device.type == "cpu" and backend not in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
        raise Unsupported("a CPU has no such kernel")
    return (
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, attn_mask=mask),
        inputs,
        _Backend(backend),
    )


def _alone(found: Tensor | tuple[Tensor, ...]) -> Tensor:
    assert isinstance(found, Tensor)
    return found


def _no() -> AbstractContextManager[object]:
    return nullcontext()


class _Backend(AbstractContextManager[object]):
    """One kernel of scaled_dot_product_attention and no other; may be entered again."""

    def __init__(self, backend: SDPBackend) -> None:
        self.backend = backend

    def __enter__(self) -> None:
        self.inside = sdpa_kernel(self.backend)
        self.inside.__enter__()

    def __exit__(self, *given: object) -> None:
        self.inside.__exit__(*given)  # type: ignore[arg-type]
