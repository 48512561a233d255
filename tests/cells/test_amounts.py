"""The amount of one count and of all counts of a cell, and the warnings where they are not sure."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbert.cells import amounts as module
from scbert.cells.amounts import amounts_of
from scbert.cells.how_to_read import HowToRead
from scbert.cells.matrix import parts_in_memory
from scbert.cells.quality import cell_sums
from tests.cells.test_recover import draw_counts

SIZE_FACTORS = np.random.default_rng(1).uniform(0.3, 2.0, 120)


def logged(counts, factors, base=np.e):
    """Return log1p of counts times a number of each cell, float32."""
    found = (sparse.diags_array(factors) @ counts).tocsr()
    found.data = np.log1p(found.data) / np.log(base)
    return found.astype(np.float32)


def amounts(matrix, obs=None, key="", scale="auto"):
    """Find out what a matrix in memory holds."""
    obs = pd.DataFrame(index=range(matrix.shape[0])) if obs is None else obs
    parts = parts_in_memory(matrix, "X of q")
    return amounts_of(parts, obs, HowToRead(scale=scale, library_size_key=key), "q", 1e4)


def codes(found):
    return [caution.code for caution in found.cautions]


@pytest.fixture
def small_transcriptome(monkeypatch):
    """Let the 400 genes of the tests be all that there are."""
    monkeypatch.setattr(module, "TRANSCRIPTOME_GENES", 400)


def test_size_factors_leave_the_counts_of_a_whole_transcriptome(small_transcriptome):
    counts = draw_counts()
    found = amounts(logged(counts, 1 / SIZE_FACTORS, 2))
    linear, library = found.of(logged(counts, 1 / SIZE_FACTORS, 2), slice(None))
    assert (linear != counts).nnz == 0
    assert library.tolist() == cell_sums(counts).tolist()
    assert codes(found) == ["unknown_sum"]
    assert "do not add up to one number" in found.cautions[0].found
    assert "--library-size-key" in found.cautions[0].advice


def test_size_factors_of_some_genes_need_a_sum_that_is_assumed():
    counts = draw_counts()
    part = logged(counts, 1 / SIZE_FACTORS)[:, :100]
    found = amounts(part)
    assert codes(found) == ["unknown_sum"]
    assert "10,000 was taken, since the file has 100 genes only" in found.cautions[0].found
    assert (found.of(part, slice(None))[1] >= 1e4).all()


@pytest.mark.parametrize("key", ["", "total_counts"])
def test_a_column_of_all_counts_is_used(key):
    """By itself only if its name says what it is and its numbers can be."""
    counts = draw_counts()
    part = logged(counts, 1 / SIZE_FACTORS)[:, :100]
    obs = pd.DataFrame({"total_counts": cell_sums(counts)})
    found = amounts(part, obs, key)
    linear, library = found.of(part, slice(None))
    assert (linear != counts[:, :100]).nnz == 0
    assert library.tolist() == cell_sums(counts).tolist()
    assert codes(found) == []
    for wrong in (cell_sums(counts) + 0.5, cell_sums(counts[:, :50])):
        assert codes(amounts(part, pd.DataFrame({"total_counts": wrong}))) == ["unknown_sum"]


def test_a_column_below_the_counts_is_refused():
    counts = draw_counts()
    part = logged(counts, 1 / SIZE_FACTORS)[:, :100]
    with pytest.raises(ValueError, match=r"obs\['n'\] of q is \d+ in a cell that has at least"):
        amounts(part, pd.DataFrame({"n": cell_sums(counts[:, :50]) + 1}), "n")


def test_the_sum_of_some_genes_is_found_without_a_warning():
    counts = draw_counts()
    part = logged(counts, 1e4 / cell_sums(counts))[:, :100]
    found = amounts(part)
    assert (found.scale.target_sum, codes(found)) == (1e4, [])


def test_groups_of_cells_with_different_sums_are_told(small_transcriptome):
    counts = draw_counts()
    mixed = logged(counts, np.where(np.arange(120) % 3, 1e4, 1200.0) / cell_sums(counts))
    found = amounts(mixed)
    assert codes(found) == ["mixed_sums"]
    assert "67% of the cells to 10,000, 33% of the cells to 1,200" in found.cautions[0].found
    assert (found.of(mixed, slice(None))[0] != counts).nnz == 0
    assert codes(amounts(mixed[:, :100])) == ["mixed_sums"]  # of some genes only the steps tell


def test_rounded_logarithms_and_ones_are_told():
    """Cells of 300 genes and more have one with more counts than 15."""
    counts = draw_counts(n_genes=900)
    rounded = logged(counts, 1e4 / cell_sums(counts))
    rounded.data = np.round(rounded.data)
    rounded.eliminate_zeros()
    found = amounts(rounded)
    assert (found.scale.kind, codes(found)) == ("counts", ["integer_logs"])
    ones = counts.astype(bool)
    assert codes(amounts(ones)) == codes(amounts(ones.astype(np.float32))) == ["only_ones"]
    assert codes(amounts(counts)) == []
    assert codes(amounts(counts[:, :5])) == []  # a panel of few genes may well have low counts


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_counts_that_were_logged_and_taken_back_are_counts(kind):
    counts = draw_counts()
    back = counts.astype(kind)
    back.data = np.expm1(np.log1p(back.data))
    assert (back.data != counts.data).any()
    found = amounts(back)
    assert found.scale.kind == "counts"
    assert (found.of(back, slice(None))[0] != counts).nnz == 0
