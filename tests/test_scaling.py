"""The tables of docs/scaling.md are what its script computes from the numbers that are kept."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("scaling")


@pytest.fixture
def results(scaling):
    return scaling.Results(json.loads((ROOT / "docs/results/gpu.json").read_text()))


def test_the_page_has_the_tables_that_the_numbers_give(scaling, results):
    _, said, _ = scaling.PAGE.read_text().split(scaling.MARK)
    assert said.strip() == "\n".join(scaling.tables(results)).strip()


def test_hours_are_tokens_over_tokens_per_second(scaling):
    settings = {"optimizer": {"epochs": 2, "tokens_per_batch": 1_000}, "validation_fraction": 0.5}
    lines = scaling.hours(settings, rate=1e5)
    one, eight, _ = lines[3].split(" | ")[1:]  # 1,000,000 cells x 900 tokens x 2 x 0.5
    assert one == "2.5 h, 900,000 steps"
    assert eight == "20.8 min, 112,500 steps"
