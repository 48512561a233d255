import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from scipy import sparse

from scbert.tokens.store import store_in_memory
from scbert.tokens.tokenize import tokenize
from scbert.training.seen_cells import (
    fingerprints,
    load_seen,
    recognize,
    save_seen,
    seen_cells,
)
from tests.samples import sample_of

N_GENES = 1500


def store(bins):
    matrix = sparse.csr_matrix(np.asarray(bins, dtype=np.uint8))
    cells = [f"c{n}" for n in range(matrix.shape[0])]
    return store_in_memory(sample_of("s", cells, matrix, np.arange(matrix.shape[1]), 0))


def test_cells_have_the_same_fingerprint_if_their_tokens_are_the_same():
    bins = np.random.default_rng(0).integers(1, 6, (4, 30))
    bins[2] = bins[0]
    bins[3], bins[3, 7] = bins[0], bins[0, 7] % 5 + 1  # one bin differs
    found = fingerprints(store(bins), np.arange(4))
    assert found.dtype == np.uint64
    assert found[0] == found[2]
    assert len(set(found.tolist())) == 3
    assert fingerprints(store(bins[[1]]), np.arange(1))[0] == found[1]


def test_the_same_bins_of_other_genes_are_another_cell():
    bins = np.zeros((2, 60))
    bins[0, :30] = bins[1, 30:] = 3
    first, second = fingerprints(store(bins), np.arange(2))
    assert first != second


def test_cells_that_may_be_alike_by_chance_have_none():
    bins = np.zeros((2, 30))
    bins[:, :19] = 1
    assert fingerprints(store(bins), np.arange(2)).tolist() == [0, 0]


def test_what_is_kept_of_cells_is_read_as_it_was_written(tmp_path):
    bins = np.random.default_rng(0).integers(0, 6, (4, 60))
    bins[2] = bins[0]
    seen = seen_cells(store(bins), np.arange(4))
    save_seen(tmp_path / "s.safetensors", seen)
    found = load_seen(tmp_path / "s.safetensors", 60)
    assert len(found.fingerprint) == len(found.expressed) == 3  # of equal cells one
    bits = np.unpackbits(found.expressed, axis=1, count=len(found.genes))
    assert {tuple(row) for row in bits} == {tuple(row) for row in (bins[:, found.genes] > 0) * 1}
    assert found.genes.tolist() == seen.genes.tolist()


def test_a_model_without_cells_keeps_none(tmp_path):
    save_seen(tmp_path / "s.safetensors", seen_cells(store(np.ones((1, 3))), np.arange(0)))
    found = load_seen(tmp_path / "s.safetensors", 3)
    assert found.fingerprint.tolist() == []
    assert len(found.expressed) == 0


KEPT = {  # of a cell, by two of three genes
    "fingerprint": np.array([5], dtype=np.uint64),
    "genes": np.array([0, 1], dtype=np.int32),
    "expressed": np.zeros((1, 1), np.uint8),
}


@pytest.mark.parametrize(
    "other",
    [
        {"genes": np.array([0, 3], dtype=np.int32)},  # there are 3
        {"genes": np.array([1, 1], dtype=np.int32)},
        {"genes": np.array([0, 1], dtype=np.int64)},
        {"expressed": np.zeros((1, 2), dtype=np.uint8)},
        {"expressed": np.zeros(1, dtype=np.uint8)},
    ],
)
def test_bits_that_do_not_fit_are_refused(tmp_path, other):
    save_file(KEPT, tmp_path / "s.safetensors")
    assert load_seen(tmp_path / "s.safetensors", 3).genes.tolist() == [0, 1]
    save_file(KEPT | other, tmp_path / "s.safetensors")
    with pytest.raises(ValueError, match=r"not belong together or not to the 3 genes"):
        load_seen(tmp_path / "s.safetensors", 3)


def test_what_are_no_fingerprints_is_refused(tmp_path):
    other = {"fingerprint": np.zeros((2, 2), dtype=np.float32)}
    save_file(KEPT | other, tmp_path / "s.safetensors")
    with pytest.raises(ValueError, match=r"float32 of shape \(2, 2\).* Copy the folder again"):
        load_seen(tmp_path / "s.safetensors", 3)
    save_file({"other": np.zeros(2)}, tmp_path / "s.safetensors")
    with pytest.raises(KeyError):
        load_seen(tmp_path / "s.safetensors", 3)


def counts_of(n_cells, seed, library=2000):
    """Cells of three types whose genes have the rates of 10x data: most are rarely counted."""
    rng = np.random.default_rng(seed)
    rate = np.random.default_rng(0).lognormal(0, 1.5, (3, N_GENES))
    rate = library * rate / rate.sum(axis=1, keepdims=True)
    return sparse.csr_matrix(rng.poisson(rate[np.arange(n_cells) % 3]), dtype=np.float64)


def log2_cp10k(counts):
    counts = sparse.csr_matrix(counts, copy=True)
    library = np.asarray(counts.sum(axis=1)).ravel()
    counts.data = np.log2(1 + 1e4 * counts.data / np.repeat(library, np.diff(counts.indptr)))
    return counts.astype(np.float32)


def kept_of(counts):
    names = [f"c{n}" for n in range(counts.shape[0])]
    sample = tokenize("s", names, log2_cp10k(counts), np.arange(N_GENES), 5)
    return seen_cells(store_in_memory(sample), np.arange(len(names)))


@pytest.mark.parametrize("library", [2000, 30_000])
def test_training_cells_are_recognized_and_others_are_not(library):
    """In deep cells many expressed genes are below one count in 10,000, so no token."""
    training, others = counts_of(300, 1, library), counts_of(200, 2, library)
    found = recognize(kept_of(training), log2_cp10k(sparse.vstack([training, others])))
    assert found.seen.tolist() == [True] * 300 + [False] * 200
    assert found.compared.all()


TRAINING = counts_of(120, 3)
SEEN = kept_of(TRAINING)


@given(
    left=st.floats(0.3, 1),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([lambda x: x, np.log1p, lambda x: 1e4 * x, np.sqrt]),
    kind=st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=30)
def test_recognized_are_cells_after_gene_filters_on_any_scale(left, seed, scale, kind):
    rng = np.random.default_rng(seed)
    changed = sparse.csc_matrix(sparse.vstack([TRAINING, counts_of(60, 4)])).astype(kind)
    changed = changed @ sparse.diags((rng.random(N_GENES) < left).astype(kind))
    changed = sparse.csr_matrix(changed)
    changed.eliminate_zeros()
    changed.data = scale(changed.data)
    order = rng.permutation(180)
    found = recognize(SEEN, changed[order])
    assert found.seen[found.compared].tolist() == (order < 120)[found.compared].tolist()
    assert found.compared.mean() > 0.9


def test_cells_with_too_few_shared_genes_are_not_compared():
    few = TRAINING.toarray()
    few[:60, np.asarray(TRAINING.sum(axis=0)).ravel().argsort()[30:]] = 0
    found = recognize(SEEN, sparse.csr_matrix(few))
    assert not found.compared[:60].any()
    assert found.seen.tolist() == [False] * 60 + [True] * 60
    few[60:] = few[:60]
    assert not recognize(SEEN, sparse.csr_matrix(few)).compared.any()


def test_a_cell_costs_less_than_200_bytes():
    """The vocabulary of 10x data has more genes than are kept."""
    rng = np.random.default_rng(5)
    counts = sparse.csr_matrix(rng.poisson(0.3, (50, 6000)), dtype=np.float64)
    sample = tokenize("s", ["c"] * 50, log2_cp10k(counts), np.arange(6000), 5)
    kept = seen_cells(store_in_memory(sample), np.arange(50))
    assert kept.expressed.shape[1] + 8 <= 200
    assert len(kept.genes) > 1000
