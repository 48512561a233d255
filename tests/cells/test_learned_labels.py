"""Warnings about labels that a model learned."""

import pandas as pd
import pytest

from scbert.cells.learned_labels import cautions_of_learning, labels_not_in_model


@pytest.mark.parametrize(
    ("validation", "judged", "said"),
    [(0, 0, "too few to hold any out"), (1, 2, "only 2 could be held out"), (3, 1, "only 1 could")],
)
def test_fewer_held_out_cells_than_two_of_each_type_are_too_few(validation, judged, said):
    """A model of two types and three cells was calibrated by one of them, in silence."""
    calibration = {"validation_cells": validation, "out_of_fold": {"cells": judged}}
    (caution,) = cautions_of_learning(calibration, 2, {"train": 2, "validation": 1})
    assert caution.code == "too_few_cells"
    assert "the model learned 2 types from 3 cells" in caution.found
    assert said in caution.found


def learned(validation, judged, **more):
    calibration = {"validation_cells": validation, "out_of_fold": {"cells": judged}}
    calibration["out_of_fold"]["by_chance"] = None
    return cautions_of_learning(calibration | more, 2, {"train": 4, "validation": 2})


def test_two_held_out_cells_of_each_type_are_not_too_few():
    assert learned(2, 4) == []


def test_a_threshold_of_few_validation_cells_is_said_unless_others_fit_it():
    """With batches, validation may be one small donor, while thousands of cells are judged."""
    (caution,) = learned(1, 5000)
    assert caution.code == "too_few_cells"
    assert caution.found.startswith("1 validation cells set from when on a cell is called unknown")
    assert learned(1, 5000, threshold_from="batches left out") == []


def named(*cells):
    """Cells as `annotate` names them: label, name, whether they are called unknown, how many."""
    rows = [row[:3] for row in cells for _ in range(row[3])]
    return pd.DataFrame(rows, columns=["cell_type", "scbert_label", "scbert_is_unknown"])


def test_labels_of_other_names_are_told_with_their_cells_and_names():
    """B cells for B, and Lymphocytes, of which no beginning is that of T."""
    cells = named(
        ("B cells", "B", True, 6),
        ("Lymphocytes", "T", False, 7),
        ("Lymphocytes", "B", False, 2),
        ("NK", "NK", False, 9),
    )
    (caution,) = labels_not_in_model(cells, ["B", "NK", "T"], "ct")
    assert caution.code == "labels_not_in_model"
    assert "'B cells' (6 cells, most often named 'B'), 'Lymphocytes' (9 cells, " in caution.found
    assert "most often named 'T'). These cells are not scored" in caution.found


@pytest.mark.parametrize(
    "cells",
    [
        [("Mast", "NK", False, 9)],  # the file has cells of the type
        [("Mast", "B", True, 6), ("Mast", "B", False, 3)],  # the model does not take it for its own
        [("Mast", "B", False, 4)],  # hardly any cell
        [("b", "B", False, 9)],  # said by spelled_otherwise
    ],
)
def test_new_types_are_no_other_names(cells):
    known = named(*cells, ("NK", "NK", False, 9))
    assert labels_not_in_model(known, ["B", "NK"], "ct") == []


def test_of_many_other_names_five_are_listed():
    cells = named(*((f"T{n}", "T", False, 5) for n in range(7)))
    (caution,) = labels_not_in_model(cells, ["B", "T"], "ct")
    assert "'T4' (5 cells, most often named 'T') and 2 more." in caution.found
