"""Batches of labelled cells as people write them."""

import numpy as np
import pandas as pd
import pytest

from scbert.cells.batches import clean_batches

IDS = [f"cell{n}" for n in range(40)]
REFUSED = r"obs\['who'\] of q\.h5ad looks like ids of cells .*: {} of the 40 cells with a type have"


def batches(values, labels="T"):
    return clean_batches(pd.Series(values), pd.Series([labels] * len(values)), "who", "q.h5ad")


def test_clean_batches_trims_and_takes_numbers_as_names():
    assert batches([" a", "a ", "a"])[0].tolist() == ["a"] * 3
    found, cautions = batches([1, 2] * 20)
    assert (set(found), cautions) == ({"1", "2"}, [])


def test_clean_batches_names_those_that_differ_in_capitals_or_spaces_within():
    (caution,) = batches(["donor 1", "Donor  1", "donor 2"] * 10)[1]
    assert caution.code == "alike_batches"
    assert "('Donor  1' and 'donor 1')" in caution.found


@pytest.mark.parametrize("values", [IDS, np.linspace(0, 1, 40)])
def test_clean_batches_refuses_a_column_with_a_value_of_its_own_for_each_cell(values):
    with pytest.raises(ValueError, match=REFUSED.format(40)):
        batches(values)


def test_clean_batches_refuses_ids_of_which_some_repeat_and_takes_small_batches():
    """As barcodes of several samples do; embryos have few cells, but hardly ever one."""
    with pytest.raises(ValueError, match=REFUSED.format(21)):
        batches([*IDS[:21], *["twice"] * 19])
    assert batches([*IDS[:20], *["twice"] * 20])[1] == []
    assert batches([*IDS[:20], *IDS[:20]])[1] == []


def test_clean_batches_lets_a_handful_of_cells_be_of_as_many_donors():
    assert batches(IDS[:19])[1] == []
    labels = pd.Series(["T"] * 19 + [""] * 21)
    found, _ = clean_batches(pd.Series(IDS), labels, "who", "q.h5ad")
    assert found.tolist() == IDS


def test_clean_batches_wants_one_for_each_cell_with_a_type():
    with pytest.raises(ValueError, match=r"in 1 cells, but each cell with a type needs a batch: "):
        batches(["a", "nan", "b"])
