import numpy as np
import pytest

from scbert.config import Evaluate
from scbert.evidence import bootstrap
from scbert.evidence.bootstrap import each_resample, interval, resamples

SETTINGS = Evaluate(bootstrap_samples=100, confidence_level=0.9, seed=1)


def test_interval_has_the_percentiles_of_the_resampled_values():
    """Of 0 to 100, nine tenths lie between 5 and 95."""
    found = interval(50, np.arange(101.0), SETTINGS)
    assert vars(found) == pytest.approx({"mean": 50, "low": 5, "high": 95})


def test_resamples_do_not_depend_on_how_many_are_drawn_at_a_time(monkeypatch):
    at_once = next(resamples(7, SETTINGS))
    assert at_once.shape == (100, 7)
    assert at_once.min() == 0
    assert at_once.max() == 6
    assert np.array_equal(np.stack(list(each_resample(7, SETTINGS))), at_once)
    monkeypatch.setattr(bootstrap, "NUMBERS_AT_ONCE", 90)
    blocks = list(resamples(7, SETTINGS, numbers_each=30))
    assert [len(block) for block in blocks] == [3] * 33 + [1]
    assert np.array_equal(np.concatenate(blocks), at_once)
