"""Communication between the processes of one training.

Gradients travel as the device can (nccl, gloo); numbers that the CPU asks for travel by gloo, so
that no process waits for its GPU. All processes must call these functions together.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

LONGEST_WAIT = timedelta(hours=4)  # while one reads every byte of a store of hundreds of gigabytes
T = TypeVar("T")


def is_alone() -> bool:
    """Whether there is no other process."""
    return not (torch.distributed.is_available() and torch.distributed.is_initialized())


def number_of_processes() -> int:
    """Return how many processes train together."""
    return 1 if is_alone() else torch.distributed.get_world_size()


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return 0 if is_alone() else torch.distributed.get_rank()


def is_first() -> bool:
    """Whether this is the main process: it alone reads and writes checkpoints."""
    return rank() == 0


def is_first_of_node() -> bool:
    """Whether this process does what is to be done once on each node."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


@cache
def _cpu_group() -> torch.distributed.ProcessGroup:
    return torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)


def together(work: Callable[[], T], mine: bool) -> T | None:
    """Do in some processes what the others wait for; if it fails in one, it fails in all.

    Parameters
    ----------
    mine
        Whether this process does the work.

    Returns
    -------
    What the work returned, None where it was not done.

    Raises
    ------
    ValueError
        In every process, with the first message, if the work raised ValueError or OSError. Only the
        process that failed would otherwise say why, and the others would wait for it.
    """
    if is_alone():
        return work() if mine else None
    result, message = None, ""
    try:
        result = work() if mine else None
    except (ValueError, OSError) as error:
        message = str(error) or type(error).__name__
    messages = [""] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(messages, message, _cpu_group())
    failed = next(filter(None, messages), "")
    if failed:
        raise ValueError(failed)
    return result


def told_by_first(value: T) -> T:
    """Return what the first process gave; what others gave is not used."""
    if is_alone():
        return value
    told = [value]
    torch.distributed.broadcast_object_list(told, src=0, group=_cpu_group())
    return told[0]


def tensors_of_first(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that the first process gave, on the CPU; what others gave is not used."""
    if is_alone():
        return tensors
    looks = {name: (value.shape, value.dtype) for name, value in tensors.items()}
    received = {}
    for name, (shape, dtype) in told_by_first(looks).items():
        given = tensors[name].detach() if is_first() else torch.empty(shape, dtype=dtype)
        received[name] = given.cpu().contiguous()
        torch.distributed.broadcast(received[name], src=0, group=_cpu_group())
    return received


def in_any_process(*facts: bool) -> list[bool]:
    """Return which facts are true in any process of the run."""
    if is_alone():
        return list(facts)
    found = torch.tensor(facts, dtype=torch.int32)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX, _cpu_group())
    return [bool(fact) for fact in found]


def add_up_gradients(weights: Sequence[Tensor], n_items: Tensor) -> None:
    """Turn sums of gradients into the mean over the items of all processes, in place.

    One message with all gradients, after the last batch: the processes may have different numbers
    of batches and of items in a step, which DistributedDataParallel's mean of means would weigh
    wrongly.

    Parameters
    ----------
    n_items
        What this process's gradients are sums over (masked genes, cells); a scalar.
    """
    if not is_alone():
        grads = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        message = torch.cat([*(grad.flatten() for grad in grads), n_items[None]])
        torch.distributed.all_reduce(message)
        *parts, total = message.split([*(grad.numel() for grad in grads), 1])
        for weight, part in zip(weights, parts, strict=True):
            weight.grad = part.view_as(weight)
        n_items = total[0]
    for weight in weights:
        if weight.grad is not None:
            weight.grad /= n_items.clamp(min=1)


def require_same_weights(model: nn.Module) -> None:
    """Refuse to continue if the processes' weights or projections are no longer the same bits."""
    if is_alone():
        return
    digests = torch.tensor([_digest(value) for value in model.state_dict().values()])
    # All are the same where the lowest is the highest: two messages for any number of them.
    lowest, highest = digests.clone(), digests.clone()
    torch.distributed.all_reduce(lowest, torch.distributed.ReduceOp.MIN, _cpu_group())
    torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX, _cpu_group())
    differing = [
        name
        for name, low, high in zip(model.state_dict(), lowest, highest, strict=True)
        if low != high
    ]
    if differing:
        raise RuntimeError(
            f"the processes have different weights in {', '.join(differing[:3])}: a fault of the "
            "program or of the network between them. Start again from the last checkpoint."
        )


def _digest(value: Tensor) -> int:
    bits = value.detach().cpu().reshape(-1).view(torch.uint8).numpy()
    digest = hashlib.blake2b(bits.tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def sum_over_processes(numbers: np.ndarray) -> np.ndarray:
    """Add up, element by element, what each process counted."""
    if is_alone():
        return numbers
    total = torch.from_numpy(numbers.astype(np.float64))
    torch.distributed.all_reduce(total, group=_cpu_group())
    return total.numpy()
