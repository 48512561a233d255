"""The time that is left of a fine-tuning, told over all of its parts."""

import logging
from types import SimpleNamespace

import pytest

from scbert.training import time_left as module
from scbert.training.time_left import expected_seconds, part_of_work, time_left


@pytest.fixture
def clock(monkeypatch, caplog):
    """Seconds that pass only when a test says so; what is told is in the log."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: now.seconds)
    monkeypatch.setattr(module, "SILENCE", 0.0)
    caplog.set_level(logging.INFO)
    return now


def work(clock, name, pieces, seconds):
    """Do a part, each piece of which takes so long."""
    with part_of_work(name, pieces) as done:
        for _ in range(pieces):
            clock.seconds += seconds
            done(1)


def told(caplog):
    """The parts and times of the log, in turn."""
    return [record.getMessage() for record in caplog.records]


def test_what_is_left_of_a_part_is_told_by_the_part_itself(clock, caplog):
    """Each is ten times as slow as was expected, and the second twice as slow as that."""
    with time_left("fine-tuning", {"encoder": 10.0, "experts": 4.0}):
        work(clock, "encoder", 2, 50.0)
        work(clock, "experts", 4, 20.0)
    assert told(caplog) == [
        "fine-tuning: encoder, about 14 s left",  # as expected, until there is a pace
        "fine-tuning: encoder, about 90 s left",
        "fine-tuning: encoder, about 40 s left",
        "fine-tuning: experts, about 40 s left",
        "fine-tuning: experts, about 60 s left",
        "fine-tuning: experts, about 40 s left",
        "fine-tuning: experts, about 20 s left",
        "fine-tuning: experts, about 0 s left",
    ]


def test_a_log_is_told_once_a_minute(clock, caplog, monkeypatch):
    monkeypatch.setattr(module, "SILENCE", 60.0)
    with time_left("fine-tuning", {"encoder": 10.0}):
        work(clock, "encoder", 100, 2.0)
    assert len(told(caplog)) == 3


def test_a_part_of_nothing_has_a_bar_of_its_own(clock, caplog):
    work(clock, "encoder", 2, 50.0)
    with time_left("fine-tuning", {}):
        work(clock, "encoder", 2, 50.0)
    assert told(caplog) == []


def test_expected_seconds_have_the_parts_of_the_test_only_with_one():
    without, with_it = expected_seconds(100, 0, 3, 800.0), expected_seconds(100, 20, 3, 800.0)
    assert list(with_it)[: len(without)] == list(without)
    assert list(with_it)[len(without) :] == ["cells to name", "other methods"]
