"""What the processes of one training share."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


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
    if torch.distributed.is_initialized():
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
    if not torch.distributed.is_initialized():
        return
    sums = torch.stack([value.double().sum() for value in model.state_dict().values()]).cpu()
    lowest, highest = sums.clone(), sums.clone()
    torch.distributed.all_reduce(lowest, torch.distributed.ReduceOp.MIN)
    torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
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


def sum_over_processes(numbers: np.ndarray) -> np.ndarray:
    """Add up, element by element, what each process counted; all must call this together."""
    if not torch.distributed.is_initialized():
        return numbers
    total = torch.from_numpy(numbers.astype(np.float64))  # on the CPU: gloo
    torch.distributed.all_reduce(total)
    return total.numpy()
