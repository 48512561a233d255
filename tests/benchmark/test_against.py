"""A benchmark beside an earlier one, and beside the scores of others."""

import json

import pandas as pd
import pytest

from scbert.benchmark.against import (
    LABELS,
    all_labels,
    changed_labels,
    compare_with,
    comparison_table,
    judge_comparison,
    published_table,
)
from scbert.benchmark.results import Results
from scbert.benchmark.summary import as_json, means_over_seeds, read_rooms
from tests.benchmark.made_up import make_room, methods

SKILL = {"scbert": 0.9, "linear_svm": 0.8, "random": 0.3}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return make_room(tmp_path_factory.mktemp("benchmark"), "toy", 1, SKILL, [])


@pytest.fixture
def results(room):
    return Results(read_rooms([room]), methods(*SKILL), 0.95)


@pytest.fixture
def crate(room, results, tmp_path):
    """What an earlier run has left."""
    means = means_over_seeds(results.long, 0.95)
    (tmp_path / "benchmark.json").write_text(json.dumps(as_json(results.long, means, 0.95)))
    all_labels([room], list(SKILL)).to_csv(tmp_path / LABELS, sep="\t", index=False)
    return tmp_path


def test_the_same_run_has_not_changed(crate, results, room):
    found = compare_with(crate, results, [room])
    assert not found.changed.any()
    assert judge_comparison(found).startswith("Nothing has changed: all ")


def test_a_label_that_was_another_marks_its_method(crate, results, room):
    labels = pd.read_csv(crate / LABELS, sep="\t", dtype=str)
    place = labels.index[(labels.method == "linear_svm") & (labels.label == labels.true)][0]
    labels.loc[place, "label"] = "another"
    labels.to_csv(crate / LABELS, sep="\t", index=False)
    found = compare_with(crate, results, [room])
    table = comparison_table(found, results)
    marked = [row[0].text for row, look in zip(table.rows, table.looks, strict=True) if look]
    assert marked == [results.title("linear_svm")]
    assert "1 of" in judge_comparison(found)
    assert "1 became right, 0 became wrong" in judge_comparison(found)


def change(crate, method, line):
    """Put something else into the macro F1 of a method in the earlier run."""
    data = json.loads((crate / "benchmark.json").read_text())
    data["scores"] = [
        one | (line(one) if (one["method"], one["metric"]) == (method, "macro_f1") else {})
        for one in data["scores"]
    ]
    (crate / "benchmark.json").write_text(json.dumps(data))


def test_a_score_that_was_another_is_shown_with_its_sign(crate, results, room):
    change(crate, "scbert", lambda one: {"value": one["value"] - 0.1})
    said = judge_comparison(compare_with(crate, results, [room]))
    assert "+0.100, of scbert on toy" in said


def test_a_method_that_failed_in_one_of_the_runs_is_named(crate, results, room, tmp_path):
    change(crate, "linear_svm", lambda one: {"value": None} if one["level"] == "all" else {})
    found = compare_with(crate, results, [room])
    lacking = len(results.scores().query("method == 'linear_svm' and level == 'all'"))
    assert judge_comparison(found) == f"{lacking} scores are new: linear_svm on toy."
    assert found.changed.sum() == 1
    broken = make_room(tmp_path, "toy", 1, SKILL, [("scbert", "within_dataset")])
    now = Results(read_rooms([broken]), methods(*SKILL), 0.95)
    said = judge_comparison(compare_with(crate, now, [broken]))
    assert "1 scores lack now, for the method failed: scbert on toy." in said
    assert "Nothing" not in said


def test_scores_of_other_seeds_are_not_compared(crate, results, room, tmp_path):
    more = make_room(tmp_path, "toy", 2, SKILL)
    both = Results(read_rooms([room, more]), methods(*SKILL), 0.95)
    said = judge_comparison(compare_with(crate, both, [room, more]))
    assert said.startswith("Nothing has changed: all ")
    n = len(results.scores())
    assert said.endswith(f" {n} scores that one run alone asked for are not compared.")
    with pytest.raises(ValueError, match="no method, dataset and seed in common"):
        compare_with(crate, Results(read_rooms([more]), methods(*SKILL), 0.95), [more])


def test_runs_with_nothing_in_common_are_refused(crate, results, room):
    data = json.loads((crate / "benchmark.json").read_text())
    data["scores"] = [line | {"dataset": "other"} for line in data["scores"]]
    (crate / "benchmark.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="no method, dataset and seed in common"):
        compare_with(crate, results, [room])


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


def test_a_published_score_that_is_no_number_is_refused(results, tmp_path):
    columns = ["dataset", "protocol", "method", "accuracy", "macro_f1", "split", "source"]
    lines = [["toy", "within_dataset", "Other", score, "", "", ""] for score in ("0.5", "76 %")]
    pd.DataFrame(lines, columns=columns).to_csv(tmp_path / "p.tsv", sep="\t", index=False)
    with pytest.raises(ValueError, match=r"p.tsv holds '76 %' as accuracy in line 3. Needed is"):
        published_table(tmp_path / "p.tsv", results)
