import numpy as np
import pytest
import torch
from torch.nn import functional

from scbert.training.classification import TypeLoss

LABEL = np.array([0] * 6 + [1] * 2)  # training cells: 6 and 2
LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
GIVEN = torch.tensor([0, 1, 1])


@pytest.fixture
def loss(config, toy):
    """The loss of the three cells above, with these settings."""

    def of(**settings):
        plain = {"class_balance": "none", "logit_adjustment": 0.0}
        options = toy.change(config.finetune, **plain | settings)
        return TypeLoss(LABEL, options)(LOGITS, GIVEN)

    return of


def each():
    return functional.cross_entropy(LOGITS, GIVEN, reduction="none")


def test_plain_loss_is_the_sum_of_the_cross_entropy(loss):
    torch.testing.assert_close(loss(), each().sum())


def test_balanced_weights_make_types_count_the_same(loss):
    """8 / (2 x 6) and 8 / (2 x 2)."""
    expected = (each() * torch.tensor([2 / 3, 2.0, 2.0])).sum()
    torch.testing.assert_close(loss(class_balance="balanced"), expected)


def test_logit_adjustment_adds_the_log_of_the_shares(loss):
    shifted = LOGITS + torch.log(torch.tensor([0.75, 0.25]))
    expected = functional.cross_entropy(shifted, GIVEN, reduction="sum")
    torch.testing.assert_close(loss(logit_adjustment=1.0), expected)
