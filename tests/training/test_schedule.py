import pytest

from scbert.config import Restarts
from scbert.training.optimizer import cosine, learning_rate, restarting

ORIGINAL = Restarts(first_cycle=15, warmup=5, cycle_factor=2, peak_factor=0.9, minimum=1e-6)


def test_restarting_is_the_original_epoch_by_epoch():
    """What scBERT@262fd4b's scheduler gave when it was run, to three digits; epochs from 1."""
    given = {
        **{1: 1e-6, 2: 2.08e-5, 3: 4.06e-5, 4: 6.04e-5, 5: 8.02e-5, 6: 1e-4, 7: 9.76e-5},
        **{8: 9.05e-5, 9: 7.96e-5, 10: 6.58e-5, 11: 5.05e-5, 12: 3.52e-5, 13: 2.14e-5},
        **{14: 1.05e-5, 15: 3.42e-6, 16: 1e-6, 21: 9e-5, 41: 1e-6, 46: 8.1e-5, 86: 1e-6},
        **{91: 7.29e-5},
    }
    for epoch, expected in given.items():
        assert restarting(1e-4, ORIGINAL, epoch - 1) == pytest.approx(expected, rel=5e-3)


def test_learning_rate_follows_steps_or_epochs(config, toy):
    settings = toy.change(config.pretrain.optimizer, epochs=4, warmup=0.25)
    peak = settings.learning_rate
    assert learning_rate(settings, 1, 0.5) == pytest.approx(peak * cosine(1.5 / 4, 0.25))
    with_restarts = toy.change(settings, restarts=ORIGINAL.model_dump())
    for progress in (0.0, 0.9):
        assert learning_rate(with_restarts, 1, progress) == restarting(peak, ORIGINAL, 1)


def test_a_cycle_must_be_longer_than_its_warm_up():
    with pytest.raises(ValueError, match="first_cycle is 5 and warmup 5"):
        Restarts(first_cycle=5, warmup=5, cycle_factor=2, peak_factor=0.9, minimum=0)
