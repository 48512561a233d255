"""Labels as people write them."""

import numpy as np
import pandas as pd
import pytest

from scbert.cells.labels import clean_labels, labels_for


def test_clean_labels_trims_and_knows_the_words_for_none():
    written = pd.Series([" B", "B", "nan", "NA", None, np.nan, "", "None", "T cell "])
    labels, cautions = clean_labels(written, "ct")
    assert labels.tolist() == ["B", "B", "", "", "", "", "", "", "T cell"]
    assert [caution.code for caution in cautions] == ["missing_labels", "trimmed_labels"]
    assert "obs['ct'] holds 'nan' (1), 'NA' (1), 'None' (1)" in cautions[0].found
    assert "2 labels with spaces around them (' B', 'T cell ')" in cautions[1].found


def test_clean_labels_leaves_good_ones_of_any_type():
    for column in (pd.Series(["a", "b"]), pd.Series(["a", "b"], dtype="category")):
        labels, cautions = clean_labels(column, "ct")
        assert (labels.tolist(), cautions) == (["a", "b"], [])
    assert clean_labels(pd.Series([1, 2]), "ct")[0].tolist() == ["1", "2"]


def test_clean_labels_names_those_that_differ_in_capitals():
    (caution,) = clean_labels(pd.Series(["B cell", "b cell", "T", "NK"]), "ct")[1]
    assert caution.code == "alike_labels"
    assert "('B cell' and 'b cell')" in caution.found


@pytest.mark.parametrize(
    "name", ["unassigned", "Unknown_2", "Doublets (B/T)", "low-quality", "LowQuality cells"]
)
def test_clean_labels_names_those_that_sound_like_no_type(name):
    """Nothing is left out: it may be a type all the same."""
    labels, (caution,) = clean_labels(pd.Series([name, "B", name, "T"]), "ct")
    assert labels.tolist() == [name, "B", name, "T"]
    assert caution.code == "unclear_labels"
    assert f"obs['ct'] holds '{name}' (2): these labels sound" in caution.found


def test_clean_labels_takes_names_of_types_for_types():
    names = ["Double negative T", "Low-density neutrophil", "Quality", "Assigned", "Other"]
    assert clean_labels(pd.Series(names), "ct")[1] == []


def test_labels_for_a_model_names_those_that_it_spells_otherwise():
    (caution,) = labels_for(pd.Series(["b cell", "T", "mast"]), "ct", ["B cell", "T"])[1]
    assert caution.code == "spelled_otherwise"
    assert "'b cell' ('B cell' in the model)" in caution.found
