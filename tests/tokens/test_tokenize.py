import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from scbert.cells.quality import cell_sums
from scbert.tokens.tokenize import (
    HIGHEST_LEVEL,
    LEVELS,
    bins_of_levels,
    levels_of_expression,
    normalize,
)
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
    st.integers(1, HIGHEST_LEVEL // LEVELS),
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


def csr(values):
    return sparse.csr_matrix(np.asarray(values, dtype=np.float64))


def draw_counts():
    return csr(np.random.default_rng(0).poisson(1.0, (20, 30)))


def sums(counts):
    return np.asarray(counts.sum(axis=1)).ravel()


def test_normalize_of_two_cells():
    """3 of 10,000 counts: log2(4) = 2. Of 5,000 counts 1 is 2 per 10,000: log2(3)."""
    found = normalize(csr([[3, 0, 7], [1, 0, 0]]), np.array([10_000.0, 5_000.0]), 1e4)
    expected = [[2, 0, 3], [np.log2(3), 0, 0]]
    assert found.toarray() == pytest.approx(np.array(expected))
    assert found.dtype == np.float32


def test_normalize_of_a_cell_that_expresses_one_gene_only():
    """The highest value there is: log2(10,001) = 13.3."""
    assert normalize(csr([[0, 4]]), np.array([4.0]), 1e4)[0, 1] == np.float32(np.log2(10_001))


def test_normalize_agrees_with_scanpy():
    import scanpy as sc  # noqa: PLC0415  takes seconds to import
    from anndata import AnnData  # noqa: PLC0415

    counts = draw_counts()
    reference = AnnData(counts.toarray())
    sc.pp.normalize_total(reference, target_sum=1e4)
    sc.pp.log1p(reference, base=2)
    found = normalize(counts, sums(counts), 1e4)
    assert found.toarray() == pytest.approx(reference.X, rel=1e-5)


def test_normalize_does_not_depend_on_depth_or_on_other_cells():
    counts = draw_counts()
    found = normalize(counts, sums(counts), 1e4)
    deeper = normalize(counts * 8, sums(counts) * 8, 1e4)
    assert found.toarray() == pytest.approx(deeper.toarray())
    assert (normalize(counts[5:6], sums(counts)[5:6], 1e4) != found[5:6]).nnz == 0


def test_normalize_leaves_its_input_and_stores_no_zero():
    counts = sparse.csr_matrix((np.array([2.0, 0.0]), [0, 1], [0, 2, 2]), shape=(2, 2))
    found = normalize(counts, np.array([2.0, 0.0]), 1e4)
    assert counts.data.tolist() == [2, 0]
    assert found.nnz == 1
    assert found[1].nnz == 0  # a cell without counts


def test_normalize_refuses_negative_values():
    with pytest.raises(ValueError, match=r"counts hold -1.0, but .* Pass raw counts"):
        normalize(csr([[1, -1]]), np.array([2.0]), 1e4)


@pytest.mark.parametrize("library", [4.0, 0.0, np.nan])
def test_normalize_refuses_a_library_smaller_than_its_counts(library):
    with pytest.raises(ValueError, match=r"cell 1 has 5 counts but a library of (4|0|nan)\. Give"):
        normalize(csr([[1, 0], [2, 3]]), np.array([1.0, library]), 1e4)


def test_normalize_takes_a_library_that_was_rounded():
    """n_counts of another selection of genes may be off by a few counts."""
    assert normalize(csr([[1000, 1]]), np.array([1000.0]), 1e4).nnz == 2


@pytest.mark.parametrize("denominator", ["integers", "fractions"])
def test_normalize_of_many_cells_gives_the_bins_of_float64(denominator):
    """The shape of real samples: more cells than are scaled at once, libraries of any size."""
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(0.3, (700, 200)), dtype=np.float32)
    library = rng.integers(500, 30_000, 700).astype(np.float64)
    if denominator == "fractions":
        counts.data *= rng.uniform(0.1, 1, counts.nnz).astype(np.float32)
        library *= 1.1
    reference = np.log2(1 + counts.toarray().astype(np.float64) * (1e4 / library)[:, None])
    found = normalize(counts, library, 1e4)
    assert np.array_equal(found.toarray(), reference.astype(np.float32))


def test_cell_sums_add_in_float64():
    """2^24 + 1 is no float32: a library would lose a count."""
    counts = sparse.csr_matrix(np.array([[2**24, 1]], dtype=np.float32))
    assert cell_sums(counts).tolist() == [2**24 + 1]
