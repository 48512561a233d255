"""Missed aims on the page of the benchmark follow from its numbers."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/benchmark_aims.py"
SCORES = {  # macro F1 of scBERT, balanced logistic regression and CellTypist; the first's ECE
    ("within_dataset", "a"): (0.90, 0.80, 0.905, 0.02),
    ("within_dataset", "b_b"): (0.70, 0.60, 0.80, 0.05),
    ("across_batches", "a"): (0.80, 0.75, float("nan"), 0.03),
    ("few_labels", "a"): (0.10, 0.90, 0.90, 0.9),
}
METHODS = ("scbert", "logistic_regression", "celltypist")


@pytest.fixture(scope="module")
def shortfalls():
    return runpy.run_path(str(SCRIPT))["shortfalls"]


def results(scores):
    """A stand-in for Results with these scores."""
    lines = []
    for (protocol, dataset), (*values, error) in scores.items():
        lines += [
            (protocol, dataset, "macro_f1", method, value)
            for method, value in zip(METHODS, values, strict=True)
        ]
        lines.append((protocol, dataset, "ece", "scbert", error))
    table = pd.DataFrame(lines, columns=["protocol", "dataset", "metric", "method", "value"])
    return SimpleNamespace(
        scores=lambda metric: table[table["metric"] == metric],
        datasets=["a", "b_b"],
        first="scbert",
        rivals=["logistic_regression", "celltypist"],
        title=str.capitalize,
    )


def test_what_is_behind_or_uncalibrated_is_listed_with_both_numbers(shortfalls):
    text = shortfalls(results(SCORES))
    assert "Macro F1: not reached in 1 of 3." in text  # .005 behind is level
    assert "| within a dataset | b b | Celltypist | 0.700 | 0.800 | -0.100 |" in text
    assert "not reached in 1 of 3: b b, within a dataset (0.050)." in text
    assert "Scbert 0.800, Logistic_regression 0.717, difference +0.083." in text


def test_what_failed_is_not_reached(shortfalls):
    failed = SCORES | {("across_batches", "a"): (float("nan"), 0.75, 0.7, float("nan"))}
    text = shortfalls(results(failed))
    assert "| across batches | a | Logistic_regression | failed | 0.750 |  |" in text
    assert "of the 2 in which both have a score" in text


def test_all_that_is_reached_is_said(shortfalls):
    text = shortfalls(results({("within_dataset", "a"): (0.9, 0.8, 0.7, 0.01)}))
    assert "Macro F1: reached in all 1." in text
    assert "Calibration error: reached in all 1." in text
