import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from scbert.tokens.tokenize import LEVELS, MOST_BINS, bins_of_levels, levels_of_expression
from tests.samples import sample_of


def row(*values):
    return sparse.csr_matrix(np.array([values], dtype=np.float32))


def test_a_level_is_a_sixteenth_and_its_bin_the_whole_part():
    """The last value, log2(10 001) = 13.3, is a cell that expresses one gene only."""
    tokens = levels_of_expression(row(0, 0.9, 1, 4.99, 5, np.log2(10_001), 20))
    assert tokens.toarray().tolist() == [[0, 0, 16, 79, 80, 212, 255]]
    assert bins_of_levels(tokens.toarray(), 5).tolist() == [[0, 0, 1, 4, 5, 5, 5]]
    assert tokens.dtype == bins_of_levels(tokens.data, 5).dtype == np.uint8
    assert tokens.nnz == 5


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 8)),
        elements=st.floats(0, 20, width=32),
    ),
    st.integers(1, MOST_BINS),
)
@settings(max_examples=60, deadline=None)
def test_the_bin_of_a_level_is_the_floor_up_to_the_last_bin(expression, n_bins):
    x = sparse.csr_matrix(expression)
    before = x.copy()
    levels = levels_of_expression(x).toarray()
    assert (bins_of_levels(levels, n_bins) == np.minimum(np.floor(expression), n_bins)).all()
    seen = expression >= 1
    lost = np.minimum(expression, 255 / LEVELS)[seen] - levels[seen] / LEVELS
    assert ((lost >= 0) & (lost < 1 / LEVELS)).all()
    assert (x.data.tolist(), x.indices.tolist(), x.indptr.tolist()) == (
        before.data.tolist(),
        before.indices.tolist(),
        before.indptr.tolist(),
    )


def test_levels_of_permuted_cells_and_unsorted_genes():
    expression = sparse.random_array((9, 30), density=0.5, rng=np.random.default_rng(0)) * 8
    x = sparse.csr_matrix(expression)
    order = np.random.default_rng(1).permutation(9)
    assert (levels_of_expression(x[order]) != levels_of_expression(x)[order]).nnz == 0
    backwards = sparse.csr_matrix(([2.5, 1.5], [1, 0], [0, 2]), shape=(1, 2))
    assert levels_of_expression(backwards).indices.tolist() == [0, 1]
    assert levels_of_expression(backwards).data.tolist() == [24, 40]


@pytest.mark.parametrize("value", [-0.5, np.nan])
def test_levels_of_expression_refuses_what_is_not_log_normalised(value):
    with pytest.raises(ValueError, match=rf"expression holds {value}.*output of normalize\(\)"):
        levels_of_expression(row(1, value))


def test_measured_row_of_a_sample():
    one = sample_of("s", [], sparse.csr_matrix((0, 4), dtype=np.uint8), np.array([0, 2]), 0)
    assert one.measured_row().tolist() == [True, False, True, False]
