import numpy as np
import pytest
import torch

from scbert.files import read_json
from scbert.training.checkpoint import Checkpoint
from scbert.training.losses import PendingLosses, Step


def step(loss, items=1.0):
    losses = [torch.tensor([loss * items, items])]
    return Step(1, 0, 1e-3, [np.arange(1)], losses, torch.tensor(1.0))


def test_a_small_first_loss_is_no_measure_of_an_explosion(tmp_path):
    """A model that begins at a good one has it; 10 x the loss of guessing, 1, is the limit."""
    pending_losses, state = PendingLosses(10.0, tmp_path, lambda rows: ["cell"], 1.0), Checkpoint()
    pending_losses.unread += [step(0.001), step(9.0)]
    assert pending_losses.read(state)["train_loss"] == pytest.approx(4.5005)
    pending_losses.unread += [step(21.0)]
    with pytest.raises(FloatingPointError, match="a loss of at most 10"):
        pending_losses.read(state)


@pytest.mark.parametrize("at_once", [1, 50])
def test_one_hard_batch_is_no_explosion_and_many_are(tmp_path, at_once):
    """A rare cell that is named wrongly is most of the weight of its batch: 16 where 10 is much."""
    pending_losses, state = PendingLosses(10.0, tmp_path, lambda rows: ["cell"]), Checkpoint()

    def read(steps):
        for start in range(0, len(steps), at_once):
            pending_losses.unread += steps[start : start + at_once]
            pending_losses.read(state)

    read([step(1.0) for _ in range(20)] + [step(16.0, 4.0)] + [step(1.0) for _ in range(9)])
    with pytest.raises(FloatingPointError, match="on average"):
        read([step(16.0) for _ in range(20)])
    found = read_json(tmp_path / "failure.json")
    assert 10 < float(found["recent_loss"]) < 16
    assert float(found["batches"][0]["loss"]) == 16


def test_tokens_and_operations_are_added_up(tmp_path):
    pending_losses, state = PendingLosses(10.0, tmp_path, lambda rows: ["cell"]), Checkpoint()
    for tokens, flop in ((900, 1e15), (700, 3e15)):
        one = step(1.0)
        one.tokens, one.flop = tokens, flop
        pending_losses.unread.append(one)
    pending_losses.read(state)
    assert (state.sums.tokens, state.sums.flop, state.sums.cells) == (1600, 4e15, 2)
