"""The experts: classifiers that are linear in bins and cell vectors."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from scbert.experts.classifiers import discriminant
from scbert.experts.fit import EXPERTS, fit_experts
from scbert.experts.linear import (
    LinearExpert,
    choose_genes,
    expression_of,
    load_experts,
    most_variable_genes,
    save_experts,
)
from scbert.tokens.store import store_in_memory
from tests.samples import sample_of

NAMES = tuple(EXPERTS)


def store_of(rows):
    bins = sparse.csr_matrix(np.array(rows, dtype=np.uint8))
    names = [f"cell{n}" for n in range(bins.shape[0])]
    return store_in_memory(sample_of("toy", names, bins, np.arange(bins.shape[1]), 0))


def drawn(n_types=3, n_cells=90, n_genes=20, seed=0):
    """Bins of 0 and 1, and up to 5 in two marker genes of the type."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_cells) % n_types
    bins = rng.integers(0, 2, (n_cells, n_genes))
    for type_ in range(n_types):
        rows = np.flatnonzero(label == type_)
        bins[rows, 2 * type_] = rng.integers(2, 6, len(rows))
        bins[rows, 2 * type_ + 1] = rng.integers(0, 6, len(rows))
    return bins, label


def vectors_of(label, seed=0):
    """Cell vectors of width 4 that know of the type, far from 0 and at another scale than bins."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(int(label.max()) + 1, 4))
    return 0.01 * (centres[label] + 0.3 * rng.normal(size=(len(label), 4))) + 5


def fitted(bins, label, names=NAMES):
    return fit_experts(names, sparse.csr_matrix(bins), label, vectors_of(label), seed=0)


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_a_fit_uses_one_blas_thread_and_leaves_the_others_to_the_caller(monkeypatch):
    # Bits of a bias and of principal components depended on the number of cores.
    seen = []

    def fit(cells):
        seen.append(blas_threads())
        n_types = cells.label.max() + 1
        return np.zeros((n_types, cells.x_NF.shape[1])), np.zeros(n_types), np.zeros((n_types, 0))

    monkeypatch.setitem(EXPERTS, "discriminant", fit)
    with threadpool_limits(limits=4, user_api="blas"):
        fitted(*drawn(), names=("discriminant",))
        assert blas_threads() == {4}
    assert seen == [{1}]


def test_logits_are_weight_times_bin_plus_bias_plus_weight_times_vector():
    weight = np.array([[1, 0, 0], [0, 10, 0]], dtype=np.float32)
    bias, bins = np.array([0, 0.5], dtype=np.float32), sparse.csr_matrix([[0, 0, 3], [5, 2, 0]])
    vectors = np.array([[1.0, 0.0], [0.0, 2.0]])
    tokens = LinearExpert(weight, bias, np.zeros((2, 0), dtype=np.float32))
    assert tokens.logits(bins, vectors).tolist() == [[0.0, 0.5], [5.0, 20.5]]
    reads = LinearExpert(weight, bias, np.array([[3, 0], [0, 1]], dtype=np.float32))
    assert reads.logits(bins, vectors).tolist() == [[3.0, 0.5], [5.0, 22.5]]
    assert (tokens.reads_vectors, reads.reads_vectors) == (False, True)
    assert tokens.logits(bins[:0], vectors[:0]).shape == (0, 2)
    assert reads.logits(bins, vectors).dtype == np.float32


def test_expression_of_gives_the_rows_that_are_asked_for():
    bins = [[0, 1, 0], [2, 0, 5], [0, 0, 0]]
    found = expression_of(store_of(bins), np.array([1, 2, 0, 1]))
    assert found.toarray().tolist() == [bins[1], bins[2], bins[0], bins[1]]
    assert expression_of(store_of(bins), np.array([], dtype=int)).shape == (0, 3)


def test_choose_genes_takes_those_that_tell_the_types_apart():
    bins, label = drawn()
    bins[:, 19] = 3  # the same everywhere
    given = sparse.csr_matrix(bins)
    assert np.flatnonzero(choose_genes(given, label, 6)).tolist() == [0, 1, 2, 3, 4, 5]
    assert choose_genes(given, label, 1000).tolist() == [True] * 19 + [False]
    assert not choose_genes(sparse.csr_matrix(np.ones((90, 4))), label, 2).any()


def test_a_gene_that_is_constant_within_each_type_comes_first():
    """Its F statistic is infinite."""
    bins, label = drawn()
    bins[:, 11] = label
    assert np.flatnonzero(choose_genes(sparse.csr_matrix(bins), label, 1)).tolist() == [11]


def test_of_genes_that_tell_as_much_the_first_is_chosen():
    bins, label = drawn()
    bins[:, 9] = bins[:, 4] = 5 * (label == 0)
    assert np.flatnonzero(choose_genes(sparse.csr_matrix(bins), label, 1)).tolist() == [4]


def test_most_variable_genes_are_those_whose_bins_vary_most():
    """Variances 6.25, 0, 1 and 0.25; one gene is the same everywhere and is never taken."""
    bins = sparse.csr_matrix([[5, 5, 3, 1], [0, 5, 1, 0], [5, 5, 1, 0], [0, 5, 3, 1]])
    assert most_variable_genes(bins, 1).tolist() == [True, False, False, False]
    assert most_variable_genes(bins, 2).tolist() == [True, False, True, False]
    assert most_variable_genes(bins, 4).tolist() == [True, False, True, True]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_types", [2, 3, 5])
def test_each_expert_finds_the_planted_types_in_new_cells(name, n_types):
    expert = fitted(*drawn(n_types), [name])[name]
    bins, label = drawn(n_types, seed=1)
    logits = expert.logits(sparse.csr_matrix(bins), vectors_of(label, seed=1))
    assert logits.shape == (90, n_types)
    assert (logits.argmax(axis=1) == label).mean() > 0.9
    arrays = (expert.weight_CV, expert.bias_C, expert.vector_weight_CD)
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    assert expert.reads_vectors == (name == "encoder")


SCALES = {
    "logistic_regression": lambda bins: bins.max(axis=0),
    "scaled_logistic_regression": lambda bins: np.sqrt(bins.var(0) + np.median(bins.var(0))),
}


@pytest.mark.parametrize("n_types", [2, 3])
@pytest.mark.parametrize("name", SCALES)
def test_both_logistic_regressions_are_scikit_learns_on_genes_divided_by_their_scale(name, n_types):
    bins, label = drawn(n_types)
    bins[:, 19] = np.arange(90) == 0  # seen in one cell: its spread is a tenth of the usual one
    divided = bins / SCALES[name](bins)
    reference = LogisticRegression(class_weight="balanced", max_iter=10_000)
    expected = reference.fit(divided, label).predict_proba(divided)
    expert = fitted(bins, label, [name])[name]
    ours = np.exp(expert.logits(sparse.csr_matrix(bins), np.zeros((90, 0))))
    assert np.abs(ours / ours.sum(axis=1, keepdims=True) - expected).max() < 1e-3


def log_odds(logits):
    """Of each type against the first; scikit-learn gives them so where there are two types."""
    return logits[:, None] if logits.ndim == 1 else logits[:, 1:] - logits[:, :1]


@pytest.mark.parametrize("n_types", [2, 3])
def test_the_encoders_expert_is_a_discriminant_on_components_and_vectors_together(n_types):
    bins, label = drawn(n_types)
    vectors = vectors_of(label)
    expert = fitted(bins, label, ["encoder"])["encoder"]
    pca = PCA(20, random_state=0).fit(bins)
    points = pca.transform(bins)
    scaled = vectors - vectors.mean(axis=0)
    scaled *= points.std(axis=0).mean() / vectors.std(axis=0).mean()
    both = np.concatenate([points, scaled], axis=1)
    priors = np.full(n_types, 1 / n_types)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=priors)
    expected = log_odds(reference.fit(both, label).decision_function(both))
    ours = log_odds(expert.logits(sparse.csr_matrix(bins), vectors))
    assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max()
    alone = fitted(bins, label, ["discriminant"])["discriminant"]
    without = log_odds(alone.logits(sparse.csr_matrix(bins), vectors))
    assert np.abs(without - expected).max() > 0.1 * np.abs(expected).max()


def test_vectors_that_say_nothing_leave_the_encoders_expert_finite():
    bins, label = drawn()
    given = (sparse.csr_matrix(bins), label, np.ones((90, 4)), 0)
    expert = fit_experts(["encoder"], *given)["encoder"]
    assert np.isfinite(expert.logits(given[0], given[2])).all()


def test_a_rare_type_weighs_as_much_as_a_common_one():
    """Five cells of 85, of which one gene alone tells, in two of three: balance finds them."""
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], [80, 5])
    bins = rng.integers(0, 2, (85, 20))
    bins[:, 3] = rng.poisson(np.where(label == 1, 3, 1)).clip(0, 5)
    for name, expert in fitted(bins, label).items():
        logits = expert.logits(sparse.csr_matrix(bins), vectors_of(label))
        assert (logits.argmax(axis=1) == 1)[80:].all(), name


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits(name):
    one, two = (fitted(*drawn(), [name])[name] for _ in range(2))
    for part in ("weight_CV", "bias_C", "vector_weight_CD"):
        assert np.array_equal(getattr(one, part), getattr(two, part))


def test_one_type_is_refused():
    bins, label = drawn()
    with pytest.raises(ValueError, match=r"90 training cells have 1 cell type.*at least two"):
        fitted(bins, np.zeros_like(label))


def test_cells_that_are_all_alike_are_refused():
    bins, label = drawn()
    with pytest.raises(ValueError, match="no gene differs between the 90 training cells"):
        fitted(np.ones_like(bins), label)


def test_an_expert_ordered_by_column_is_saved_as_it_is(tmp_path):
    """Solvers may return either order, and safetensors writes the bytes as they lie."""
    rng = np.random.default_rng(0)
    weight, vectors = (np.asfortranarray(rng.normal(size=(3, n)), np.float32) for n in (20, 4))
    expert = LinearExpert(weight, np.zeros(3, np.float32), vectors)
    save_experts(tmp_path / "experts.safetensors", {"encoder": expert})
    found = load_experts(tmp_path / "experts.safetensors", 3, 20)["encoder"]
    assert np.array_equal(found.weight_CV, weight)
    assert np.array_equal(found.vector_weight_CD, vectors)


def test_saved_experts_are_the_same(tmp_path):
    experts = fitted(*drawn())
    save_experts(tmp_path / "experts.safetensors", experts)
    found = load_experts(tmp_path / "experts.safetensors", 3, 20)
    assert set(found) == set(NAMES)
    for name, expert in experts.items():
        for part in ("weight_CV", "bias_C", "vector_weight_CD"):
            assert np.array_equal(getattr(found[name], part), getattr(expert, part))


@pytest.mark.parametrize(
    ("n_types", "n_genes", "message"),
    [(4, 20, r"shape \(3, 20\), .* 4 cell types and 20 genes"), (3, 19, "genes that .* 19 do not")],
)
def test_experts_of_another_size_are_refused(tmp_path, n_types, n_genes, message):
    save_experts(tmp_path / "experts.safetensors", fitted(*drawn()))
    with pytest.raises(ValueError, match=message):
        load_experts(tmp_path / "experts.safetensors", n_types, n_genes)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, bool])
def test_experts_whose_genes_are_no_integers_are_refused(tmp_path, dtype):
    save_experts(tmp_path / "experts.safetensors", fitted(*drawn()))
    arrays = load_file(tmp_path / "experts.safetensors")
    arrays["genes"] = arrays["genes"].astype(dtype)
    save_file(arrays, tmp_path / "experts.safetensors")
    with pytest.raises(ValueError, match="names genes that the model's 20 do not have"):
        load_experts(tmp_path / "experts.safetensors", 3, 20)


@pytest.mark.parametrize("part", ["weight_CV", "bias_C", "vector_weight_CD"])
def test_experts_that_are_not_finite_are_refused(tmp_path, part):
    experts = fitted(*drawn())
    getattr(experts["encoder"], part)[..., 0] = np.nan
    save_experts(tmp_path / "experts.safetensors", experts)
    with pytest.raises(ValueError, match="NaN, infinite"):
        load_experts(tmp_path / "experts.safetensors", 3, 20)


@pytest.mark.parametrize("n_types", [2, 4])
def test_of_one_cell_per_type_the_nearest_cell_names_a_cell(n_types):
    """The variance is that of all cells along the first component, so nobody is very sure."""
    bins, label = drawn(n_types)
    one_each, vectors = np.arange(n_types), np.zeros((len(label), 0))
    cells = sparse.csr_matrix(bins[:n_types])
    expert = fit_experts(["discriminant"], cells, one_each, vectors[:n_types], 0)["discriminant"]
    logits = expert.logits(sparse.csr_matrix(bins), vectors)
    used = bins[:n_types].std(axis=0) > 0
    pca = PCA(n_types - 1, random_state=0).fit(bins[:n_types, used])
    points, means = pca.transform(bins[:, used]), pca.transform(bins[:n_types, used])
    squared = ((points[:, None] - means) ** 2).sum(axis=2)
    expected = -squared / (2 * means.var(axis=0).max())
    assert log_odds(logits) == pytest.approx(log_odds(expected), abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_every_expert_learns_from_one_cell_per_type(name):
    bins, label = drawn()
    one_each = fit_experts([name], sparse.csr_matrix(bins[:3]), label[:3], vectors_of(label[:3]), 0)
    logits = one_each[name].logits(sparse.csr_matrix(bins), vectors_of(label))
    assert np.isfinite(logits).all()
    assert (logits.argmax(axis=1) == label).mean() > 0.6


@pytest.mark.parametrize("label", [[0, 1, 2, 3], [0, 1, 2, 2]])
def test_of_fewer_than_two_cells_per_type_the_genes_that_vary_most_are_chosen(label):
    """The second gene, which both cells of type 2 lack, would have an infinite F."""
    cells = sparse.csr_matrix([[0, 1, 3, 2], [9, 1, 1, 2], [0, 0, 2, 1], [8, 0, 1, 1]])
    assert choose_genes(cells, np.array(label), 2).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("n_cells", "largest", "least"), [(2, 2, 0.85), (3, 3, 0.9), (2, 10, 0.85)]
)
def test_the_discriminant_tells_types_apart_by_two_or_three_cells_each(n_cells, largest, least):
    # Ledoit and Wolf's shrinkage of so few is too little: 0.52, 0.86 and 0.77 were right.
    rng, n_types, width = np.random.default_rng(0), 12, 23
    centre = rng.normal(size=(n_types, width))
    label = np.append(
        np.repeat(np.arange(n_types), n_cells), np.zeros(largest - n_cells, dtype=int)
    )
    query = np.repeat(np.arange(n_types), 50)
    known = centre[label] + rng.normal(size=(len(label), width))
    cells = centre[query] + rng.normal(size=(len(query), width))
    found = discriminant(label).fit(known, label).predict(cells)
    assert (found == query).mean() > least
