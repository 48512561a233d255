"""A token store that is packed for a machine without network comes back byte for byte."""

import numpy as np
import pytest
from scipy import sparse

from benchmarks.carried_store import _from_bytes, _to_bytes, pack_store, restore_part, restore_store
from benchmarks.pool import name_files
from scbert.cells.store_writer import Source, write_store
from tests.samples import sample_of

N_GENES = 40
ONLY_IN_THE_WHOLE = [3, 4, 17]  # genes that no cell of a part expresses
# More cells than a byte counts, none, and a few.
SIZES = {"many": 700, "none": 0, "few": 5}


def sample(name, part=False):
    """Cells of which one has no token, most genes rare; the last gene was not measured."""
    n_cells, rng = SIZES[name], np.random.default_rng(len(name))
    expressed = rng.random((n_cells, N_GENES)) < rng.random(N_GENES) ** 6
    expressed[-1:, 0] = True  # by one cell alone, far behind the first
    expressed[:1], expressed[:, -1] = False, False
    if name != "many":
        expressed[:, ONLY_IN_THE_WHOLE] = False
    genes = np.delete(np.arange(N_GENES), ONLY_IN_THE_WHOLE if part else [])
    bins = np.where(expressed, rng.integers(1, 6, expressed.shape), 0).astype(np.uint8)[:, genes]
    cells = [f"{name}-{number}" for number in range(n_cells)]
    measured = np.flatnonzero(genes < N_GENES - 1)
    return sample_of(name, cells, sparse.csr_matrix(bins), measured, 0)


def write(folder, *samples):
    meta = {"n_bins": 5, "vocabulary_size": samples[0].levels.shape[1], "vocabulary_sha256": "abc"}
    write_store(folder, [Source(one.name, "sha", lambda one=one: one) for one in samples], meta)
    return files_of(folder)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(tmp_path):
    write(tmp_path / "whole", *map(sample, SIZES))
    return tmp_path / "whole"


def test_a_store_comes_back(tmp_path, whole):
    restore_store(pack_store(whole), tmp_path / "restored")
    assert files_of(tmp_path / "restored") == files_of(whole)


def test_a_part_comes_back_from_the_whole(tmp_path, whole):
    written = write(tmp_path / "part", sample("few", part=True), sample("none", part=True))
    genes = np.delete(np.arange(N_GENES), ONLY_IN_THE_WHOLE)
    restore_part(whole, written, genes, tmp_path / "restored")
    assert files_of(tmp_path / "restored") == written


def test_changed_tokens_are_refused(tmp_path, whole):
    members = pack_store(whole)
    *others, last = members["bins.u8"]
    members["bins.u8"] = bytes([*others, last % 255 + 1])
    with pytest.raises(ValueError, match="SHA-256"):
        restore_store(members, tmp_path / "restored")


def test_distances_of_each_length():
    gaps = np.array([0, 1, 254, 255, 256, 509, 510, 511, 0, 100_000])
    assert _from_bytes(np.frombuffer(_to_bytes(gaps), "u1")).tolist() == gaps.tolist()


def test_files_of_one_study_share_a_number_also_where_some_are_left_out(tmp_path):
    for name in ("baron_1", "baron_2", "chung", "geact_a", "geact_b"):
        (tmp_path / f"{name}.h5ad").touch()
    assert list(name_files(tmp_path, {"baron_1", "geact_b"})) == [
        "SRA1_baron_2",
        "chung",
        "SRA2_geact_a",
    ]
