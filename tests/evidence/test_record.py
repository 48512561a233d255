"""A record that is written and read is the same, and its file is laid out as it always was."""

import json

import pytest

from scbert.evidence.comparison import Comparison, OutOfFoldComparison, OutOfFoldScores, Part
from scbert.evidence.evaluation import (
    BatchScores,
    Evaluation,
    FileDifference,
    FileEvaluation,
    FileMethod,
    NovelCells,
)
from scbert.evidence.history import FinetuningEpoch, PretrainingEpoch, best_epoch, read_history
from scbert.files import read_json, write_json
from tests.report.test_figures import (
    VALIDATION,
    make_comparison,
    make_difference,
    make_evaluation,
    make_gene2vec_quality,
    make_history,
)
from tests.report.test_report import EXPLANATION

METRICS = ("accuracy", "macro_f1", "balanced_accuracy")


def make_file_evaluation() -> FileEvaluation:
    scbert = make_evaluation().scbert
    differences = dict.fromkeys(METRICS, make_comparison().model.accuracy)
    return FileEvaluation(
        version="1",
        model="seed1",
        model_sha256="ab",
        test="new.h5ad",
        test_sha256="cd",
        left_out={"without type": 2},
        scbert=scbert,
        methods=[FileMethod("scbert", "scBERT", **scbert.scores)],
        differences=[FileDifference("majority", **differences)],
        batches=[BatchScores("donor a", 7, {"scbert": dict.fromkeys(METRICS, 0.5)})],
        novel=NovelCells(3, {"mast": 3}, 0.5, 0.25, 0.75),
    )


def make_out_of_fold() -> OutOfFoldComparison:
    return OutOfFoldComparison(
        dataset="d",
        scored_on="out of fold",
        caution="No cell was held out.",
        n_test=0,
        n_out_of_fold=12,
        parts={"train": Part({"B cell": 12}, ["donor a"])},
        methods=[OutOfFoldScores("scbert", "scBERT", 0.5, 1.25)],
    )


@pytest.mark.parametrize(
    "make",
    [
        make_evaluation,
        make_comparison,
        make_file_evaluation,
        make_out_of_fold,
        make_gene2vec_quality,
        lambda: VALIDATION,
        lambda: EXPLANATION,
    ],
)
def test_a_record_is_read_as_it_was_written(tmp_path, make):
    record, path = make(), tmp_path / "deep/record.json"
    record.write(path)
    assert type(record).read(path) == record
    assert read_json(path) == record.content()


def test_the_scores_of_the_model_stand_among_the_other_keys():
    keys = list(make_evaluation().content())
    assert keys[:4] == ["dataset", "parts", "classes", "n_test"]
    assert keys[-2:] == ["unknown", "embedding"]
    found = make_file_evaluation().content()
    assert list(found)[5:8] == ["left_out", "classes", "n_test"]
    assert found["batches"][0]["scbert"]["macro_f1"] == 0.5


@pytest.mark.parametrize("kind", [Comparison, Evaluation, FileEvaluation])
@pytest.mark.parametrize("content", [{}, [], 3, {"dataset": "d", "methods": [{"title": 1}]}])
def test_another_file_is_refused_with_its_name(tmp_path, kind, content):
    write_json(tmp_path / "other.json", content)
    with pytest.raises(ValueError, match=r"other.json does not hold what this version"):
        kind.read(tmp_path / "other.json")


def test_a_difference_is_that_of_the_metric_that_was_asked_for():
    found = make_comparison().difference("majority", "accuracy")
    assert (found.method, found.metric) == ("majority", "accuracy")
    assert found.mean == make_difference(0.6871 - 0.0512)["mean"]
    assert make_comparison().difference("unknown") is None
    assert make_comparison().best_baseline.title == "Logistic regression"


def epoch(number, macro_f1, loss):
    return FinetuningEpoch(number, 0.1, validation_loss=loss, validation_macro_f1=macro_f1)


def test_best_epoch_has_the_highest_macro_f1():
    history = [epoch(1, 0.7, 0.1), epoch(2, 0.9, 0.5), epoch(3, 0.8, 0.2)]
    assert best_epoch(history).epoch == 2


def test_best_epoch_of_equals_has_the_least_loss():
    history = [epoch(1, 1.0, 0.09), epoch(2, 1.0, 0.02), epoch(3, 1.0, 0.02)]
    assert best_epoch(history).epoch == 2


def test_read_history_leaves_further_numbers_out(tmp_path):
    path = tmp_path / "history.jsonl"
    lines = [one.content() | {"seconds": 1.5} for one in make_history(2)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_history(path, FinetuningEpoch) == make_history(2)
    with pytest.raises(ValueError, match=r"history.jsonl does not hold .* validation_accuracy"):
        read_history(path, PretrainingEpoch)


def test_a_history_that_is_cut_is_refused_by_name(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"epoch": 1, "train_lo')
    with pytest.raises(ValueError, match=r"history\.jsonl does not hold what this version"):
        read_history(path, PretrainingEpoch)
