import json
import logging
import math
import re

import pytest

from scbert.training import progress as module
from scbert.training.progress import Progress, rates
from scbert.training.state import Sums


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def told(caplog):
    """The seconds that each line says are left; None: unknown."""
    unit = {"s": 1, "min": 60, "h": 3600}
    found = re.findall(r"time left: (?:unknown|([\d.]+) (\w+))", caplog.text)
    return [float(value) * unit[name] if value else None for value, name in found]


EPOCHS, STEPS = 5, 120


def run(progress, clock, seconds):
    """A run as the loop tells it; returns when each line was told, and when all was done.

    The first step compiles for a minute; a validation takes a third of an epoch.
    """
    lines = []
    for epoch in range(EPOCHS):
        for step in range(1, STEPS + 1):
            clock.now += seconds + (60 if epoch == 0 and step == 1 else 0)
            number, done, before = epoch * STEPS + step, epoch + step / STEPS, progress.told
            if number % 50 == 0:
                progress.tell({"step": number}, done)
            progress.pass_step(number, done)
            lines += [clock.now] if progress.told != before else []
        clock.now += STEPS / 3 * seconds
        progress.tell({"epoch": epoch + 1, "step": (epoch + 1) * STEPS}, epoch + 1)
        lines.append(clock.now)
    return lines, clock.now


@pytest.mark.parametrize("seconds", [0.1, 5.0, 45.0])
def test_the_time_left_is_known_within_a_factor_of_two_from_the_first_minutes(
    clock, caplog, tmp_path, seconds
):
    """A first line may come after one step, which tells nothing; the second within two minutes."""
    progress, started = Progress(tmp_path / "history.jsonl", EPOCHS), clock.now
    lines, end = run(progress, clock, seconds)
    found = told(caplog)
    assert len(lines) == len(found)
    assert lines[1] - started <= 60 + 60 + 2 * seconds
    for when, left in zip(lines[1:-1], found[1:-1], strict=True):
        assert 0.5 < left / (end - when) < 2
    assert found[-1] == 0


def test_a_run_that_continues_counts_what_is_left_only(clock, caplog, tmp_path):
    """Epochs 7 to 10 of ten, at 2 seconds a step: eight minutes from the first line on."""
    progress = Progress(tmp_path / "history.jsonl", 10)
    for step in (601, 602):
        clock.now += 2
        progress.pass_step(step, step / 100)
    progress.tell({"step": 602}, 6.02)
    assert told(caplog) == [pytest.approx(2 * 398, abs=30)]


def test_a_run_that_continues_with_a_validation_is_no_worse(clock, caplog, tmp_path):
    """It takes half an hour, and what follows 100 seconds."""
    progress = Progress(tmp_path / "history.jsonl", 3)
    clock.now += 1800
    progress.tell({"epoch": 2, "step": 100}, 2)
    for step in (101, 102, 103):
        clock.now += 1
        progress.pass_step(step, step / 50)
    progress.tell({"step": 103}, 103 / 50)
    assert told(caplog) == [None, pytest.approx(47)]


def test_steps_are_silent_as_long_as_lines_come(clock, caplog, tmp_path):
    progress = Progress(tmp_path / "history.jsonl", 1)
    for step in range(1, 121):
        clock.now += 1
        if step % 50 == 0:
            progress.tell({"step": step}, step / 1000)
        progress.pass_step(step, step / 1000)
    assert re.findall(r"step (\d+) ", caplog.text) == ["50", "100"]
    written = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in written] == [50, 100]


def test_only_the_process_with_the_history_tells(clock, caplog):
    progress = Progress(None, 1)
    clock.now += 1e4
    progress.pass_step(1, 0.1)
    progress.tell({"step": 1}, 0.1)
    assert not caplog.text


@pytest.mark.parametrize(
    ("left", "said"), [(119, "119 s"), (121, "2 min"), (7000, "117 min"), (9000, "2.5 h")]
)
def test_times_are_told_in_units_that_fit(left, said):
    assert module.rough_duration(left) == said


def test_rates_of_an_epoch():
    """2e15 operations in four seconds, on a device that could do 1e15 in one."""
    sums = Sums(cells=10, tokens=9000, flop=2e15, seconds=4.0, waited=1.0)
    found = rates(sums, 1e15)
    assert found == {
        "cells_per_second": 2.5,
        "tokens_per_second": 2250,
        "waiting_share": 0.25,
        "tflop_per_second": 500.0,
        "mfu": 0.5,
    }
    assert "mfu" not in rates(sums, None)
    assert "tflop_per_second" not in rates(Sums(cells=1, seconds=1.0), 1e15)  # not counted
    assert all(map(math.isfinite, rates(Sums(flop=1.0), 1e15).values()))
