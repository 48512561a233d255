"""All that a training step needs is on the device of the batch, and nothing there is float64.

On torch's meta device, which computes shapes only and, as a GPU, refuses tensors of the CPU. The
GPUs of Apple have no float64.
"""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scbert.network.model import CellTypeModel, ConvHead
from scbert.steps.pretrain import masked_loss
from scbert.training.classification import Classification, TypeLoss
from scbert.training.corpus import make_masked
from scbert.training.losses import Step
from scbert.training.optimizer import OptimizerSteps
from scbert.training.state import Task
from tests.packed_cells import batches, model_of, network

LENGTHS = [7, 0, 23, 12]
LABEL = np.array([0, 1, 2, 0])
META = torch.device("meta")
ATTENTIONS = pytest.mark.parametrize("attention", ["exact", "performer"])


@pytest.fixture(autouse=True)
def _no_autocast(monkeypatch):
    """Of it the meta device knows nothing, and of pinned memory a machine without a GPU."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)


class NoFloat64(TorchDispatchMode):
    """Let an operation fail that takes, makes or moves a float64 tensor on the device."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        wide = [
            each
            for each in tree_leaves((args, kwargs, made))
            if isinstance(each, torch.Tensor) and each.dtype == torch.float64
        ]
        assert all(each.device != META for each in wide), f"{operation} in float64"
        return made


def test_float64_on_the_device_is_found():
    with NoFloat64():
        torch.ones(2, dtype=torch.float64)
        with pytest.raises(AssertionError, match="in float64"):
            torch.ones(2, dtype=torch.float64).to(META)


def take_a_step(task, optimizer):
    """Do an optimizer step; a tensor that stayed on the CPU is an error."""
    accelerator = SimpleNamespace(device=META, autocast=nullcontext)
    with NoFloat64():
        optimizer_steps = OptimizerSteps(task, optimizer, 0, accelerator)
        step = Step(1, 0, 1e-3)
        batch = optimizer_steps.make(0, 0, np.arange(len(LENGTHS)))
        optimizer_steps.add_gradients(step, 0, batch.narrow())  # as it comes to a GPU
        optimizer_steps.take(step)
    assert step.norm.device == META


@ATTENTIONS
def test_pretraining(config, attention):
    layout = "packed" if attention == "exact" else "padded"
    cells = batches(layout, LENGTHS)
    make = partial(make_masked, cells, config.pretrain)
    model = model_of(network(config, attention=attention))
    take_a_step(Task(model, None, make, masked_loss, None, None), config.pretrain.optimizer)


@ATTENTIONS
def test_fine_tuning(config, toy, attention):
    settings = network(config, attention=attention)
    options = toy.change(config.finetune, logit_adjustment=1.0)
    cells = batches("packed_within" if attention == "exact" else "padded", LENGTHS)
    model = CellTypeModel(model_of(settings).encoder, ConvHead(settings.dim, 60, options, 3))
    labelled = SimpleNamespace(label=LABEL)
    learning = Classification(model, cells, labelled, TypeLoss(LABEL, options), META)
    task = Task(model, None, learning.make, learning.loss, None, None)
    take_a_step(task, config.finetune.optimizer)
