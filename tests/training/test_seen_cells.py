import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import sparse

from scbert.tokens.store import store_in_memory
from scbert.training.seen_cells import fingerprints, load_seen, save_seen
from tests.samples import sample_of


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


def test_cells_that_may_be_alike_by_chance_have_none(tmp_path):
    bins = np.zeros((2, 30))
    bins[:, :19] = 1
    assert fingerprints(store(bins), np.arange(2)).tolist() == [0, 0]
    save_seen(tmp_path / "s.safetensors", np.array([0, 9, 5, 9], dtype=np.uint64))
    assert load_seen(tmp_path / "s.safetensors").tolist() == [5, 9]


def test_no_cell_is_no_error(tmp_path):
    save_seen(tmp_path / "s.safetensors", fingerprints(store(np.ones((1, 3))), np.arange(0)))
    assert load_seen(tmp_path / "s.safetensors").tolist() == []


def test_what_are_no_fingerprints_is_refused(tmp_path):
    save_file({"fingerprint": np.zeros((2, 2), dtype=np.float32)}, tmp_path / "s.safetensors")
    with pytest.raises(ValueError, match=r"float32 of shape \(2, 2\).* Copy the folder again"):
        load_seen(tmp_path / "s.safetensors")
    save_file({"other": np.zeros(2)}, tmp_path / "s.safetensors")
    with pytest.raises(KeyError):
        load_seen(tmp_path / "s.safetensors")
