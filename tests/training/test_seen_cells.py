import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import sparse

from scbert.tokens.store import store_in_memory
from scbert.training.seen_cells import fingerprints, load_seen, save_seen, seen_cells
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


def test_what_older_versions_kept_is_read(tmp_path):
    save_file({"fingerprint": np.array([5, 9], dtype=np.uint64)}, tmp_path / "s.safetensors")
    found = load_seen(tmp_path / "s.safetensors", 3)
    assert found.fingerprint.tolist() == [5, 9]
    assert found.genes is None


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
    arrays = {"fingerprint": np.array([5], dtype=np.uint64)}
    arrays |= {"genes": np.array([0, 1], dtype=np.int32), "expressed": np.zeros((1, 1), np.uint8)}
    save_file(arrays, tmp_path / "s.safetensors")
    assert load_seen(tmp_path / "s.safetensors", 3).genes.tolist() == [0, 1]
    save_file(arrays | other, tmp_path / "s.safetensors")
    with pytest.raises(ValueError, match=r"not belong together or not to the 3 genes"):
        load_seen(tmp_path / "s.safetensors", 3)


def test_what_are_no_fingerprints_is_refused(tmp_path):
    save_file({"fingerprint": np.zeros((2, 2), dtype=np.float32)}, tmp_path / "s.safetensors")
    with pytest.raises(ValueError, match=r"float32 of shape \(2, 2\).* Copy the folder again"):
        load_seen(tmp_path / "s.safetensors", 3)
    save_file({"other": np.zeros(2)}, tmp_path / "s.safetensors")
    with pytest.raises(KeyError):
        load_seen(tmp_path / "s.safetensors", 3)
