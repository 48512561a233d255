"""Warnings about labels that a model learned."""

import pytest

from scbert.cells.learned_labels import cautions_of_learning


@pytest.mark.parametrize(
    ("validation", "judged", "said"),
    [(0, 0, "too few to hold any out"), (1, 2, "only 1 could be held out"), (3, 1, "only 1 could")],
)
def test_fewer_held_out_cells_than_types_are_too_few(validation, judged, said):
    """A model of two types and three cells was calibrated by one of them, in silence."""
    calibration = {"validation_cells": validation, "out_of_fold": {"cells": judged}}
    (caution,) = cautions_of_learning(calibration, 2, {"train": 2, "validation": 1})
    assert caution.code == "too_few_cells"
    assert "the model learned 2 types from 3 cells" in caution.found
    assert said in caution.found


def test_as_many_held_out_cells_as_types_are_not_too_few():
    calibration = {"validation_cells": 2, "out_of_fold": {"cells": 2, "by_chance": None}}
    assert cautions_of_learning(calibration, 2, {"train": 4, "validation": 2}) == []
