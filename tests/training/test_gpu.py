"""On a GPU: packed cells are the padded ones, and a training step waits for nothing."""

from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from scbert.steps.pretrain import masked_loss
from scbert.training.corpus import make_masked
from scbert.training.losses import Step
from scbert.training.optimizer import OptimizerSteps
from scbert.training.state import Task
from tests.gpu import needs_gpu, never_waiting
from tests.packed_cells import batches, logits, model_of, network

LENGTHS = [0, 700, 37, 300, 900, 1, 450, 800]
N_GENES = 1000


@needs_gpu
@pytest.mark.parametrize("layout", ["packed", "packed_within"])
def test_packed_cells_on_a_gpu_are_padded_ones_on_the_cpu(config, layout):
    """bfloat16 has 8 bits; the norm of the difference over that of the logits."""
    model = model_of(network(config), N_GENES)
    rows = np.arange(len(LENGTHS))
    padded = batches("padded", LENGTHS, 8192, n_genes=N_GENES).make(rows)
    expected = logits(model, padded)[padded.real_BG]
    batch = batches(layout, LENGTHS, 8192, n_genes=N_GENES).make(rows)
    device = torch.device("cuda")
    with torch.autocast("cuda", torch.bfloat16):
        found = logits(model.to(device), batch.narrow().to(device)).float().cpu()[batch.real_BG]
    assert (found - expected).norm() < 2e-2 * expected.norm()


@needs_gpu
@pytest.mark.parametrize("attention", ["exact", "performer"])
def test_a_training_step_waits_for_nothing(config, attention):
    model = model_of(network(config, attention=attention), N_GENES)
    layout = "packed" if attention == "exact" else "padded"
    cells = batches(layout, LENGTHS, 8192, n_genes=N_GENES)
    make = partial(make_masked, cells, config.pretrain)
    task = Task(model, None, make, masked_loss, None, None)
    accelerator = Accelerator(mixed_precision="bf16")
    optimizer_steps = OptimizerSteps(task, config.pretrain.optimizer, 0, accelerator)
    made = [optimizer_steps.make(0, number, np.arange(len(LENGTHS))) for number in range(3)]
    for number, batch in enumerate(made):
        step = Step(number + 1, 0, 1e-3)
        if number < 2:  # kernels and memory come with the first
            optimizer_steps.add_gradients(step, number, batch)
            optimizer_steps.take(step)
        else:
            with never_waiting():
                optimizer_steps.add_gradients(step, number, batch)
                optimizer_steps.take(step)
    assert torch.isfinite(step.norm)
