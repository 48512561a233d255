import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from scbert.cells.tokens import Sample, bin_expression


def row(*values):
    return sparse.csr_matrix(np.array([values], dtype=np.float32))


def test_bin_expression_floors_and_caps():
    """The last value, log2(10 001) = 13.3, is a cell that expresses one gene only."""
    tokens = bin_expression(row(0, 0.9, 1, 4.99, 5, np.log2(10_001)), n_bins=5)
    assert tokens.toarray().tolist() == [[0, 0, 1, 4, 5, 5]]
    assert tokens.dtype == np.uint8
    assert tokens.nnz == 4


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 8)),
        elements=st.floats(0, 20, width=32),
    ),
    st.integers(1, 250),
)
@settings(max_examples=60, deadline=None)
def test_bin_expression_is_the_floor_up_to_the_last_bin(expression, n_bins):
    x = sparse.csr_matrix(expression)
    before = x.copy()
    tokens = bin_expression(x, n_bins)
    assert (tokens.toarray() == np.minimum(np.floor(expression), n_bins)).all()
    assert (x.data.tolist(), x.indices.tolist(), x.indptr.tolist()) == (
        before.data.tolist(),
        before.indices.tolist(),
        before.indptr.tolist(),
    )


def test_bin_expression_of_permuted_cells_and_unsorted_genes():
    expression = sparse.random_array((9, 30), density=0.5, rng=np.random.default_rng(0)) * 8
    x = sparse.csr_matrix(expression)
    order = np.random.default_rng(1).permutation(9)
    assert (bin_expression(x[order], 5) != bin_expression(x, 5)[order]).nnz == 0
    backwards = sparse.csr_matrix(([2.5, 1.5], [1, 0], [0, 2]), shape=(1, 2))
    assert bin_expression(backwards, 5).indices.tolist() == [0, 1]
    assert bin_expression(backwards, 5).data.tolist() == [1, 2]


@pytest.mark.parametrize("value", [-0.5, np.nan])
def test_bin_expression_refuses_what_is_not_log_normalised(value):
    with pytest.raises(ValueError, match=rf"expression holds {value}.*output of normalize\(\)"):
        bin_expression(row(1, value), 5)


def test_measured_row_of_a_sample():
    one = Sample("s", [], sparse.csr_matrix((0, 4), dtype=np.uint8), np.array([0, 2]), 0)
    assert one.measured_row().tolist() == [True, False, True, False]
