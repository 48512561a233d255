import pandas as pd

from scbert.benchmark.labels import changed_labels


def labels(*called):
    rows = [("toy", "1", "t", "m", f"c{i}", "B", label) for i, label in enumerate(called)]
    return pd.DataFrame(
        rows, columns=["dataset", "seed", "task", "method", "cell", "true", "label"]
    )


def test_cells_that_are_called_otherwise_are_counted():
    found = changed_labels(labels("B", "T", "B", "NK"), labels("B", "B", "T", "T"))
    (line,) = found.to_dict("records")
    assert line == {
        "method": "m",
        "dataset": "toy",
        "cells": 4,
        "changed": 3,
        "became_right": 1,
        "became_wrong": 1,
    }


def test_cells_of_one_run_only_are_not_compared():
    found = changed_labels(labels("B", "T", "B"), labels("B", "T"))
    assert found["cells"].tolist() == [2]
    assert found["changed"].tolist() == [0]
