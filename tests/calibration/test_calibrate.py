import json

import numpy as np
import pytest

from scbert.calibration.calibrate import calibrate
from scbert.calibration.novelty import SCORES, LabelledOutputs, novelty
from scbert.calibration.novelty_threshold import KnownCells, NoveltyCells, expected_novel_detection

NAMES = ["CD4 T", "CD8 T", "B"]


def outputs(n_cells=120, seed=0):
    """B cells lie far off in both logits and positions; the two T cells lie near each other."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_cells) % 3
    centres = np.array([[4.0, 3.8, -4.0], [3.8, 4.0, -4.0], [-4.0, -4.0, 4.0]])
    logits = centres[label] + rng.normal(scale=0.5, size=(n_cells, 3))
    return LabelledOutputs(logits, logits @ rng.normal(size=(3, 4)), label)


def held_out():
    """What the experts together say of cells that they have not learned from."""
    cells = outputs(seed=2)
    return cells.logits, cells.label


def known(training, validation, left_out=None):
    """Cells to calibrate by; the components do not change where a type is left out."""
    places = training.positions, validation.positions
    return NoveltyCells(training, validation, lambda column: places, left_out)


def settings(config, toy, score):
    return toy.change(config.annotate, novelty_score=score, label_error_rate=0.2)


def labels(*parents):
    entries = [{"name": name, "ontology_term_id": "unknown"} for name in NAMES]
    return [
        entry | ({"parent": parent} if parent else {})
        for entry, parent in zip(entries, parents or [None] * 3, strict=True)
    ]


@pytest.mark.parametrize("score", SCORES)
def test_calibrate_refuses_at_most_its_share_of_the_validation_cells(config, toy, score):
    validation = outputs(seed=1)
    options = settings(config, toy, score)
    found = calibrate(*held_out(), known(outputs(), validation), labels(), options)
    scores = novelty(validation, json.loads(json.dumps(found)))
    assert (scores > found["novelty_threshold"]).mean() <= config.annotate.false_unknown_rate
    assert found["novelty_score"] == score
    assert found["levels"] is None
    assert [entry["cell_type"] for entry in found["expected_novel_detection"]] == NAMES


def test_calibrate_knows_both_levels(config, toy):
    cells, both = known(outputs(), outputs(seed=1)), settings(config, toy, "energy")
    found = calibrate(*held_out(), cells, labels("T", "T", "B"), both)
    assert found["levels"]["error_rate"] == 0.2
    assert found["levels"]["parent_threshold"] <= 1


def test_calibrate_reports_the_calibration_error_before_and_after(config, toy):
    """Logits three times as large as they should be: the temperature repairs that."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(3000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = (rng.random((3000, 1)) > chances.cumsum(axis=1)[:, :2]).sum(axis=1)
    cells = known(outputs(), outputs(seed=1))
    found = calibrate(3 * logits, label, cells, labels(), settings(config, toy, "energy"))
    assert found["temperature"] == pytest.approx(3, rel=0.1)
    assert found["held_out_ece"] < 0.03
    assert found["held_out_ece_before"] > 0.1


def test_a_type_far_from_the_others_would_be_noticed(config, toy):
    """Without B, its cells have two low logits; CD4 T cells without theirs pass as CD8 T."""
    cells = known(outputs(), outputs(seed=1))
    found = expected_novel_detection(cells, NAMES, settings(config, toy, "energy"))
    by_type = {entry["cell_type"]: entry for entry in found}
    assert by_type["B"]["detected"] == by_type["B"]["auroc"] == 1
    assert by_type["B"]["n"] == 40
    assert by_type["CD4 T"]["detected"] < 0.3


def test_expected_novel_detection_of_two_types_is_empty(config, toy):
    """One type would be left, and nothing to be unsure between."""
    two = outputs().without_type(2)
    options = settings(config, toy, "energy")
    assert expected_novel_detection(known(two, two), NAMES[:2], options) == []


def test_expected_novel_detection_leaves_out_a_type_without_validation_cells(config, toy):
    validation = outputs(seed=1)
    cells = known(outputs(), validation.of(validation.label != 1))
    found = expected_novel_detection(cells, NAMES, settings(config, toy, "expression_distance"))
    assert [entry["cell_type"] for entry in found] == ["CD4 T", "B"]


def test_expected_novel_detection_needs_cells_of_other_types(config, toy):
    """All other types have a single cell, which is for training: none says what is known."""
    validation = outputs(seed=1)
    given, cells = (NAMES, settings(config, toy, "energy")), outputs()
    one_type = validation.of(validation.label == 1)
    assert expected_novel_detection(known(cells, one_type), *given) == []
    alone = KnownCells(np.arange(3.0), np.ones(3, dtype=int), "batches left out")
    found = expected_novel_detection(known(cells, validation, alone), *given)
    assert [entry["cell_type"] for entry in found] == [NAMES[0], NAMES[2]]


def test_a_type_is_noticed_by_components_that_were_learned_without_it(config, toy):
    """Known with the type, all positions are alike; learned without it, B cells lie far off."""
    training, validation = outputs(), outputs(seed=1)
    asked = []

    def places(column):
        asked.append(column)
        shift = 50.0 if column == NAMES.index("B") else 0.0
        rng = np.random.default_rng(column)
        made = (
            rng.normal(size=(len(part.label), 4)) + shift * (part.label == column)[:, None]
            for part in (training, validation)
        )
        return tuple(made)

    cells = NoveltyCells(training, validation, places)
    every = expected_novel_detection(cells, NAMES, settings(config, toy, "expression_distance"))
    found = {entry["cell_type"]: entry for entry in every}
    assert asked == [0, 1, 2]
    assert found["B"]["detected"] == found["B"]["auroc"] == 1
    assert found["CD4 T"]["detected"] < 0.3


def test_cells_of_batches_left_out_fit_the_threshold(config, toy):
    """They lie three times as far off as validation cells: so may cells of a new study."""
    cells, options = (outputs(), outputs(seed=1)), settings(config, toy, "expression_distance")
    found = calibrate(*held_out(), known(*cells), labels(), options)
    left_out = KnownCells(3 * novelty(cells[1], found), cells[1].label, "batches left out")
    judged = calibrate(*held_out(), known(*cells, left_out), labels(), options)
    assert judged["novelty_threshold"] == pytest.approx(3 * found["novelty_threshold"])
    assert (found["threshold_from"], judged["threshold_from"]) == (
        "validation cells",
        "batches left out",
    )
    for before, after in zip(
        *(one["expected_novel_detection"] for one in (found, judged)), strict=True
    ):
        assert after["auroc"] < before["auroc"]  # of new cells beside these, as far off
        assert after["detected"] <= before["detected"]
