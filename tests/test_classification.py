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
        plain = {"loss": "cross_entropy", "class_balance": "none", "logit_adjustment": 0.0}
        options = toy.change(config.finetune, **plain | {"label_smoothing": 0.0} | settings)
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


def test_effective_weights_lie_between_none_and_balanced(loss):
    """(1 - 0.9) / (1 - 0.9^n): 0.2134 and 0.5263, divided by their mean over the cells, 0.2916."""
    found = loss(class_balance="effective", effective_beta=0.9)
    expected = (each() * torch.tensor([0.7318, 1.8047, 1.8047])).sum()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_focal_loss_counts_easy_cells_less(loss):
    probability = LOGITS.softmax(1).gather(1, GIVEN[:, None]).squeeze(1)
    found = loss(loss="focal", focal_gamma=2.0)
    torch.testing.assert_close(found, ((1 - probability) ** 2 * each()).sum())
    torch.testing.assert_close(loss(loss="focal", focal_gamma=0.0), each().sum())


def test_the_focal_loss_of_a_cell_that_is_sure_has_a_finite_gradient(config, toy):
    """1 - p is 0 in float32 there."""
    options = toy.change(config.finetune, loss="focal", focal_gamma=0.5)
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    TypeLoss(LABEL, options)(logits, torch.tensor([0])).backward()
    assert torch.isfinite(logits.grad).all()


def test_logit_adjustment_adds_the_log_of_the_shares(loss):
    shifted = LOGITS + torch.log(torch.tensor([0.75, 0.25]))
    expected = functional.cross_entropy(shifted, GIVEN, reduction="sum")
    torch.testing.assert_close(loss(logit_adjustment=1.0), expected)


def test_label_smoothing_is_torchs(loss):
    expected = functional.cross_entropy(LOGITS, GIVEN, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(loss(label_smoothing=0.1), expected)
