import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from scbert.cells.store import store_in_memory
from scbert.cells.tokens import Sample
from scbert.training.linear import (
    LinearModel,
    bins_of,
    choose_genes,
    fit_logistic_regression,
    load_linear,
    save_linear,
)

N_BINS = 5
WEIGHTS = ("none", "balanced")
GRID = (0.01, 0.1, 1.0)


def store_of(rows):
    bins = sparse.csr_matrix(np.array(rows, dtype=np.uint8))
    names = [f"cell{n}" for n in range(bins.shape[0])]
    return store_in_memory(Sample("toy", names, bins, np.arange(bins.shape[1]), 0))


def drawn(n_types=3, n_cells=60, n_genes=20, seed=0):
    """Bins of 0 and 1, and 3 to 5 in two marker genes of the type."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_cells) % n_types
    bins = rng.integers(0, 2, (n_cells, n_genes))
    for type_ in range(n_types):
        rows = np.flatnonzero(label == type_)
        bins[rows, 2 * type_] = rng.integers(2, 6, len(rows))
        bins[rows, 2 * type_ + 1] = rng.integers(0, 6, len(rows))
    return bins, label


def fitted(bins, label, **other):
    rows = np.arange(len(label))
    train, validation = rows[:40], rows[40:]
    labelled = (train, label[train], validation, label[validation])
    return fit_logistic_regression(
        store_of(bins), *labelled, N_BINS, GRID, WEIGHTS, seed=0, **other
    )


def test_logits_are_weight_times_bin_plus_bias():
    model = LinearModel(
        np.array([[1, 0, 0], [0, 10, 0]], dtype=np.float32),
        np.array([0, 0.5], dtype=np.float32),
        1.0,
        N_BINS,
    )
    store = store_of([[5, 2, 0], [0, 0, 3]])
    assert model.logits(store, np.array([1, 0])).tolist() == [[0.0, 0.5], [1.0, 4.5]]
    assert model.logits(store, np.array([], dtype=int)).shape == (0, 2)


def test_bins_of_gives_the_rows_that_are_asked_for():
    bins = [[0, 1, 0], [2, 0, 5], [0, 0, 0]]
    found = bins_of(store_of(bins), np.array([1, 2, 0, 1]))
    assert found.toarray().tolist() == [bins[1], bins[2], bins[0], bins[1]]


@pytest.mark.parametrize("n_types", [2, 3])
def test_fit_logistic_regression_is_scikit_learns_on_scaled_bins(n_types):
    """The reference: a gene divided by its largest bin in training, C chosen as in the baseline."""
    bins, label = drawn(n_types)
    model = fitted(bins, label)
    assert model.c in GRID
    largest = bins[:40].max(axis=0).clip(1)
    reference = LogisticRegression(C=model.c, max_iter=10_000).fit(bins[:40] / largest, label[:40])
    ours = model.logits(store_of(bins), np.arange(60))
    ours = np.exp(ours - ours.max(axis=1, keepdims=True))
    ours /= ours.sum(axis=1, keepdims=True)
    assert np.abs(ours - reference.predict_proba(bins / largest)).max() < 1e-3
    assert model.weight_CV.dtype == np.float32


def test_genes_that_may_not_be_used_have_weight_zero():
    bins, label = drawn()
    genes = np.ones(20, dtype=bool)
    genes[[0, 7]] = False
    model = fitted(bins, label, genes=genes)
    assert not model.weight_CV[:, ~genes].any()
    assert np.array_equal(model.weight_CV[:, genes], fitted(bins[:, genes], label).weight_CV)


def test_one_type_is_refused():
    bins, label = drawn()
    with pytest.raises(ValueError, match="at least two to tell apart"):
        fitted(bins, np.zeros_like(label))


def test_choose_genes_takes_those_that_tell_the_types_apart():
    bins, label = drawn()
    bins[:, 19] = 3  # the same everywhere
    store, rows = store_of(bins), np.arange(60)
    assert np.flatnonzero(choose_genes(store, rows, label, 6)).tolist() == [0, 1, 2, 3, 4, 5]
    assert choose_genes(store, rows, label, 19).tolist() == [True] * 19 + [False]
    assert choose_genes(store, rows, label, 1000).all()


def test_choose_genes_looks_at_the_given_cells_only():
    bins, label = drawn()
    store, rows = store_of(bins), np.arange(30)
    before = choose_genes(store, rows, label[:30], 5)
    bins[30:] = 5 - bins[30:]
    assert np.array_equal(before, choose_genes(store_of(bins), rows, label[:30], 5))


def test_a_gene_that_is_constant_within_each_type_comes_first():
    """Its F statistic is infinite."""
    bins, label = drawn()
    bins[:, 11] = label
    chosen = choose_genes(store_of(bins), np.arange(60), label, 1)
    assert np.flatnonzero(chosen).tolist() == [11]


def test_a_saved_model_is_the_same(tmp_path):
    bins, label = drawn()
    model = fitted(bins, label)
    save_linear(tmp_path / "model.safetensors", model)
    found = load_linear(tmp_path / "model.safetensors", 3, 20)
    assert np.array_equal(found.weight_CV, model.weight_CV)
    assert np.array_equal(found.bias_C, model.bias_C)
    assert (found.c, found.n_bins) == (model.c, N_BINS)


def test_a_model_of_another_size_or_of_nan_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    weight = np.ones((3, 20), dtype=np.float32)
    save_linear(path, LinearModel(weight, weight[:, 0].copy(), 1.0, N_BINS))
    with pytest.raises(ValueError, match=r"shape \(3, 20\) and \(3,\), but the model has 4 cell"):
        load_linear(path, 4, 20)
    weight[1, 1] = np.nan
    save_linear(path, LinearModel(weight, weight[:, 0].copy(), 1.0, N_BINS))
    with pytest.raises(ValueError, match="not finite"):
        load_linear(path, 3, 20)
