import numpy as np
import pytest
import torch

from scbert.training.checkpoint import Checkpoint
from scbert.training.readout import Readout, Step


def step(loss):
    losses = [torch.tensor([loss, 1.0])]
    return Step(1, 0, 1e-3, [np.arange(1)], losses, torch.tensor(1.0))


def test_a_small_first_loss_is_no_measure_of_an_explosion(tmp_path):
    """A model that begins at a good one has it; 10 x the loss of guessing, 1, is the limit."""
    readout, state = Readout(10.0, tmp_path, lambda rows: ["cell"], 1.0), Checkpoint()
    readout.unread += [step(0.001), step(9.0)]
    assert readout.read(state)["train_loss"] == pytest.approx(4.5005)
    readout.unread.append(step(11.0))
    with pytest.raises(FloatingPointError, match="a loss of at most 10"):
        readout.read(state)
