import threading

import pytest

from scbert.training.mini_batch import AHEAD, Prefetched


def test_prefetched_keeps_the_order_and_makes_a_few_ahead():
    made = []

    def make(number):
        made.append(number)
        return number * number

    with Prefetched(make, range(20)) as squares:
        assert next(squares) == 0
        assert len(made) <= 1 + AHEAD
        assert list(squares) == [n * n for n in range(1, 20)]
    assert made == list(range(20))
    assert squares.waited >= 0


def test_prefetched_passes_errors_on_and_ends_its_thread():
    def make(number):
        if number == 2:
            raise ValueError("cell 2")
        return number

    before = threading.active_count()
    with pytest.raises(ValueError, match="cell 2"), Prefetched(make, range(100)) as numbers:
        list(numbers)
    assert threading.active_count() == before


def test_prefetched_measures_what_the_consumer_waited():
    """The maker is held until the consumer has been waiting for a while."""
    release = threading.Event()
    threading.Timer(0.05, release.set).start()
    with Prefetched(lambda _: release.wait(), [1]) as made:
        next(made)
    assert 0.02 < made.waited < 5
