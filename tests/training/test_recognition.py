import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scbert.tokens.store import store_in_memory
from scbert.tokens.tokenize import tokenize
from scbert.training.recognition import recognize
from scbert.training.seen_cells import SeenCells, seen_cells

N_GENES = 1500


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


def test_a_model_of_an_older_version_compares_nothing():
    found = recognize(SeenCells(np.array([1], dtype=np.uint64)), TRAINING)
    assert not found.seen.any()
    assert not found.compared.any()


def test_a_cell_costs_less_than_200_bytes():
    """The vocabulary of 10x data has more genes than are kept."""
    rng = np.random.default_rng(5)
    counts = sparse.csr_matrix(rng.poisson(0.3, (50, 6000)), dtype=np.float64)
    sample = tokenize("s", ["c"] * 50, log2_cp10k(counts), np.arange(6000), 5)
    kept = seen_cells(store_in_memory(sample), np.arange(50))
    assert kept.expressed.shape[1] + 8 <= 200
    assert len(kept.genes) > 1000
