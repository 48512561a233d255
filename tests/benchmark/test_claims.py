"""Sentences about the first method beside the best other one."""

import numpy as np
import pytest

from scbert.benchmark.checks import check_benchmark
from scbert.benchmark.claims import compare_protocol
from scbert.benchmark.encoder import expert_verdict
from scbert.benchmark.heat_map import heat_map
from scbert.benchmark.page_tables import MARKED
from scbert.benchmark.results import Results
from scbert.benchmark.score_tables import cost_table, novelty_table, parts_table
from scbert.benchmark.statistics import method_difference
from scbert.benchmark.summary import read_rooms
from tests.benchmark.made_up import make_room, methods

pytestmark = pytest.mark.slow


def compared(folder, protocol, *names):
    """What is said of the first of these methods in a protocol."""
    results = Results(read_rooms([folder]), methods(*names), 0.95)
    return compare_protocol(results, protocol).sentence


def test_a_comparison_that_cannot_be_made_says_what_it_lacks(tmp_path):
    within, new = "within_dataset", "new_type"
    skills = {"mine": 0.9, "linear_svm": 0.8, "random": 0.0}
    mine = make_room(tmp_path, "mine", 1, skills, broken=[("mine", within), ("mine", new)])
    others = make_room(tmp_path, "others", 1, skills, broken=[("linear_svm", within)])
    assert "Mine failed there." in compared(mine, within, *skills)
    assert "Mine failed there." in compared(mine, new, *skills)
    assert "No peer or baseline has a score for all" in compared(others, within, *skills)
    assert "No peer or baseline has a score of novelty" in compared(others, new, *skills)
    assert "Encoder was not asked there." in compared(others, within, "encoder", *skills)


def test_a_method_is_not_its_own_rival(tmp_path):
    """A baseline may be the first of all, and the best."""
    skills = {"perceptron": 0.9, "mine": 0.5, "random": 0.0}
    folder = make_room(tmp_path, "toy", 1, skills)
    for protocol in ("within_dataset", "new_type"):
        assert "the best other method, Mine: " in compared(folder, protocol, *skills)


def test_what_the_encoder_adds_is_said_where_scbert_ran_without_it(tmp_path):
    skills = {"scbert": 0.9, "without_encoder": 0.5, "linear_svm": 0.8}
    folder = make_room(tmp_path, "toy", 1, skills)
    other = make_room(tmp_path, "other", 1, skills)
    with_it = Results(read_rooms([folder, other]), methods(*skills), 0.95)
    verdict = expert_verdict(with_it)
    assert verdict.sentence.startswith("Does the encoder help beside the other experts? ")
    within = method_difference(with_it.long, ("scbert", "without_encoder"), "within_dataset", 0.95)
    assert within.value > 0.2
    assert f"within a dataset {within.value:+.3f} (95\xa0% interval" in verdict.sentence
    without = Results(read_rooms([folder, other]), methods("scbert", "linear_svm"), 0.95)
    assert expert_verdict(without) is None


def room_in_two(tmp_path, skills, broken):
    """Two datasets; what is broken failed in the first."""
    return [
        make_room(tmp_path, "one", 1, skills, broken=broken),
        make_room(tmp_path, "two", 1, skills),
    ]


def test_a_better_method_that_failed_once_is_named_and_leaves_the_claim_open(tmp_path):
    skills = {"mine": 0.8, "linear_svm": 0.95, "perceptron": 0.5, "random": 0.0}
    folders = room_in_two(tmp_path, skills, [("linear_svm", "within_dataset")])
    results = Results(read_rooms(folders), methods(*skills), 0.95)
    assert results.complete(protocol="within_dataset") == ["mine", "perceptron", "random"]
    verdict = compare_protocol(results, "within_dataset")
    assert "the best other method, Perceptron: " in verdict.sentence
    assert "Not among the others, for they lack scores: Linear svm (\N{MINUS SIGN}0." in (
        verdict.sentence
    )
    assert verdict.outcome != "holds"


def test_a_failed_task_is_missing_of_every_metric(tmp_path):
    skills = {"mine": 0.9, "perceptron": 0.8, "random": 0.0}
    folders = room_in_two(tmp_path, skills, [("perceptron", "new_type")])
    results = Results(read_rooms(folders), methods(*skills), 0.95)
    for metric in ("macro_f1", "accuracy", "ece", "novelty_auroc"):
        table = results.scores(metric, "new_type").set_index(["method", "dataset"])["value"]
        assert np.isnan(table["perceptron", "one"])
        assert not np.isnan(table["perceptron", "two"])
        assert "perceptron" not in results.complete(metric, "new_type")
    assert results.best_rival("new_type", "novelty_auroc") is None


def test_a_control_that_failed_leaves_the_others_their_scores(tmp_path):
    skills = {"mine": 0.9, "perceptron": 0.8, "majority": 0.0, "random": 0.0}
    broken = [("random", "within_dataset"), ("logistic_regression", "within_dataset")]
    folders = room_in_two(tmp_path, skills | {"logistic_regression": 0.8}, broken)
    results = Results(read_rooms(folders), methods(*skills, "logistic_regression"), 0.95)
    assert not results.has_control
    assert results.best_rival("within_dataset") == "perceptron"
    check = next(one for one in check_benchmark(folders, results) if "controls" in one.name)
    assert check.severity == 1
    assert check.found.endswith("one of them has none in one.")


def test_a_mean_of_some_tasks_is_marked_wherever_it_stands(tmp_path):
    skills = {"mine": 0.9, "perceptron": 0.8, "random": 0.0}
    broken = [("perceptron", "within_dataset"), ("perceptron", "new_type")]
    folders = room_in_two(tmp_path, skills, broken)
    results = Results(read_rooms(folders), methods(*skills), 0.95)

    def marked(table):
        heads = [head.text for head in table.heads]
        return {
            (row[0].text, head)
            for row in table.rows
            for cell, head in zip(row, heads, strict=True)
            if cell.look == MARKED
        }

    heat = marked(heat_map(results))
    assert {head for method, head in heat if method == "Perceptron"} >= {"ECE", "Novelty"}
    assert {method for method, _ in heat} == {"Perceptron"}
    assert marked(cost_table(results, "within_dataset")) == {("Perceptron", "Score")}
    assert marked(novelty_table(results)) == {
        ("Perceptron", "AUROC of novelty"),
        ("Perceptron", "Macro F1 of the types it knows"),
    }


def test_a_part_says_in_how_many_tasks_it_answered(tmp_path):
    skills = {"scbert": 0.9, "random": 0.0}  # the made-up scbert has a part
    folders = room_in_two(tmp_path, skills, [])
    results = Results(read_rooms(folders), methods(*skills), 0.95)
    (failed,) = room_in_two(tmp_path / "b", skills, [("scbert", "within_dataset")])[:1]
    some = Results(read_rooms([failed, folders[1]]), methods(*skills), 0.95)
    for found, tasks in ((results, "2 of 2"), (some, "1 of 1")):
        rows = [[cell.text for cell in row] for row in parts_table(found).rows]
        assert rows[0][:2] == ["Scbert: discriminant", "Within a dataset"]
        assert rows[0][-1] == tasks
