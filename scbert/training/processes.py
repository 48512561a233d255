"""What the processes of one training share.

Gradients travel as the device can (nccl, gloo); numbers that the CPU asks for travel by gloo, so
that no process waits for its GPU. All processes must call these functions together.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn


def is_alone() -> bool:
    """Whether there is no other process."""
    return not (torch.distributed.is_available() and torch.distributed.is_initialized())


def number_of_processes() -> int:
    """Return how many processes train together."""
    return 1 if is_alone() else torch.distributed.get_world_size()


@cache
def _cpu_group() -> torch.distributed.ProcessGroup:
    return torch.distributed.new_group(backend="gloo")


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
    """Refuse to go on if the processes' weights or projections are no longer the same bits."""
    if is_alone():
        return
    sums = torch.stack([value.double().sum() for value in model.state_dict().values()]).cpu()
    lowest, highest = sums.clone(), sums.clone()
    torch.distributed.all_reduce(lowest, torch.distributed.ReduceOp.MIN, _cpu_group())
    torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX, _cpu_group())
    differing = [
        name
        for name, low, high in zip(model.state_dict(), lowest, highest, strict=True)
        if not torch.equal(low, high)
    ]
    if differing:
        raise RuntimeError(
            f"the processes have different weights in {', '.join(differing[:3])}: a fault of the "
            "program or of the network between them. Start again from the last checkpoint."
        )


def made_once(make: Callable[[], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Return what the first process makes, float64 numbers of this shape; the others wait for it.

    Where it fails, `torchrun` ends the others.
    """
    if is_alone():
        return make()
    first = torch.distributed.get_rank() == 0
    made = torch.from_numpy(make()) if first else torch.empty(shape, dtype=torch.float64)
    torch.distributed.broadcast(made, src=0, group=_cpu_group())
    return made.numpy()


def sum_over_processes(numbers: np.ndarray) -> np.ndarray:
    """Add up, element by element, what each process counted."""
    if is_alone():
        return numbers
    total = torch.from_numpy(numbers.astype(np.float64))
    torch.distributed.all_reduce(total, group=_cpu_group())
    return total.numpy()
