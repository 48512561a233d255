import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from scbert.cells.tokens import Sample, bin_expression, open_store, store_in_memory, write_store

META = {"n_bins": 5, "vocabulary_sha256": "abc"}
FILES = ("gene.u16", "bin.u8", "indptr.i64", "measured.npy", "cells.tsv", "meta.json")


def row(*values):
    return sparse.csr_matrix(np.array([values], dtype=np.float32))


def sample(name="s1", n_cells=6, n_genes=40, seed=0):
    """Cells with 0 to a few tokens; the last two genes were not measured."""
    rng = np.random.default_rng(seed)
    expression = rng.uniform(-6, 8, (n_cells, n_genes)).clip(min=0).astype(np.float32)
    expression[:, -2:] = 0
    expression[1] = 0
    bins = bin_expression(sparse.csr_matrix(expression), 5)
    cells = [f"{name}_cell{number}" for number in range(n_cells)]
    below_one = int(((expression > 0) & (expression < 1)).sum())
    return Sample(name, cells, bins, np.arange(n_genes - 2), below_one)


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


def test_store_in_memory_of_two_cells():
    """Gene 3 was not measured: unknown, not silent."""
    bins = bin_expression(sparse.csr_matrix([[0, 2.5, 7.0, 0], [0.5, 0, 0, 0]]), 5)
    store = store_in_memory(Sample("s", ["a", "b"], bins, np.array([0, 1, 2]), 1))
    assert len(store) == 2
    assert [part.tolist() for part in store.tokens(0)] == [[1, 2], [2, 5]]
    assert [part.tolist() for part in store.tokens(1)] == [[], []]
    assert store.lengths().tolist() == [2, 0]
    assert store.measured_genes(1).tolist() == [0, 1, 2]


def test_a_store_on_disk_equals_the_one_in_memory(tmp_path):
    samples = [sample("s1"), sample("s2", n_cells=3, seed=1)]
    write_store(tmp_path / "tokens", iter(samples), META)
    on_disk = open_store(tmp_path / "tokens")
    cells = 0
    for number, one in enumerate(samples):
        in_memory = store_in_memory(one)
        for cell in range(len(in_memory)):
            for found, expected in zip(on_disk.tokens(cells), in_memory.tokens(cell), strict=True):
                assert found.dtype == expected.dtype
                assert found.tolist() == expected.tolist()
            assert on_disk.cells[cells] == in_memory.cells[cell]
            assert on_disk.sample[cells] == number
            assert on_disk.measured_genes(cells).tolist() == list(range(38))
            cells += 1
    assert len(on_disk) == cells == 9
    assert isinstance(on_disk.gene, np.memmap)


def test_write_store_says_what_it_counted(tmp_path):
    """Expressed genes below 1 stand in bin 0; silent genes nowhere."""
    one = sample()
    written = write_store(tmp_path / "tokens", [one], META)
    dense = one.bins.toarray()
    assert written["bins"] == {"0": one.below_one} | {
        str(number): int((dense == number).sum()) for number in range(1, 6)
    }
    assert one.below_one > 0
    assert written["cells"] == 6
    assert written["tokens"] == one.bins.nnz
    per_cell = (dense > 0).sum(axis=1)
    assert written["tokens_per_cell"] == {
        "min": 0,
        "median": float(np.median(per_cell)),
        "max": per_cell.max(),
    }
    assert written["vocabulary_sha256"] == "abc"
    assert open_store(tmp_path / "tokens").meta == written


def test_write_store_gives_the_same_bytes_again_and_replaces_a_store(tmp_path):
    write_store(tmp_path / "tokens", [sample(), sample("s2", seed=3)], META)
    write_store(tmp_path / "again", [sample()], META)
    write_store(tmp_path / "tokens", [sample()], META)
    for name in FILES:
        assert (tmp_path / "tokens" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "tokens"]


def test_a_store_of_cells_without_tokens_can_be_opened(tmp_path):
    empty = Sample("s", ["a", "b"], sparse.csr_matrix((2, 4), dtype=np.uint8), np.arange(4), 3)
    write_store(tmp_path / "tokens", [empty], META)
    store = open_store(tmp_path / "tokens")
    assert store.lengths().tolist() == [0, 0]
    assert store.meta["bins"]["0"] == 3


def test_genes_above_32767_keep_their_number(tmp_path):
    """uint16: 65,535 is the largest vocabulary that the configuration allows."""
    bins = sparse.csr_matrix(([1, 5], [40_000, 65_534], [0, 2]), shape=(1, 65_535), dtype=np.uint8)
    write_store(tmp_path / "tokens", [Sample("s", ["a"], bins, np.array([40_000]), 0)], META)
    assert open_store(tmp_path / "tokens").tokens(0)[0].tolist() == [40_000, 65_534]


def without_cells():
    return Sample("s3", [], sparse.csr_matrix((0, 40), dtype=np.uint8), np.arange(40), 0)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "there is no file of cells to write. Name at least one"),
        ([sample("s1"), sample("s1")], "'s1' appears twice.*give the files other names"),
        ([sample("s1"), without_cells()], "'s3' has no cells.*Leave it out"),
    ],
    ids=["none", "twice", "empty"],
)
def test_write_store_refuses_samples_that_could_not_be_told_apart(tmp_path, samples, message):
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path / "tokens", samples, META)
    assert list(tmp_path.iterdir()) == []


def test_write_store_keeps_the_old_store_when_a_sample_fails(tmp_path):
    write_store(tmp_path / "tokens", [sample()], META)

    def samples():
        yield sample("s2")
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_store(tmp_path / "tokens", samples(), META)
    assert open_store(tmp_path / "tokens").cells[0] == "s1_cell0"
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


@pytest.fixture
def store(tmp_path):
    write_store(tmp_path / "tokens", [sample()], META)
    return tmp_path / "tokens"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "half"])
def test_open_store_names_a_damaged_file(store, name, damage):
    path = store / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "half" else b"")
    with pytest.raises(ValueError, match=rf"{name}.*(Write|Make).* (again|it again)"):
        open_store(store)


@pytest.mark.parametrize("name", ["gene.u16", "bin.u8", "indptr.i64"])
def test_open_store_refuses_a_file_that_grew(store, name):
    with (store / name).open("ab") as handle:
        handle.write(b"\0" * 8)
    with pytest.raises(ValueError, match=rf"{name} has \d+ bytes, but \d+ are needed: it is dam"):
        open_store(store)


@pytest.mark.parametrize("change", ["falls", "starts late", "ends early"])
def test_open_store_refuses_an_edited_indptr(store, change):
    indptr = np.fromfile(store / "indptr.i64", dtype="<i8")
    place = {"falls": 3, "starts late": 0, "ends early": -1}[change]
    indptr[place] += {"falls": -10_000, "starts late": 1, "ends early": -1}[change]
    indptr.tofile(store / "indptr.i64")
    with pytest.raises(ValueError, match=r"indptr.i64 is damaged: it does not rise from 0 to \d+"):
        open_store(store)


def test_open_store_refuses_another_number_of_cells(store):
    with (store / "cells.tsv").open("a") as handle:
        handle.write("one more\ts1\n")
    with pytest.raises(ValueError, match=r"cells.tsv lists 7 cells, but the store holds 6"):
        open_store(store)


def test_open_store_refuses_a_renamed_column_of_cells(store):
    text = (store / "cells.tsv").read_text()
    (store / "cells.tsv").write_text(text.replace("sample", "file", 1))
    with pytest.raises(ValueError, match=r"cells.tsv has no column sample; it has cell, file"):
        open_store(store)


def test_open_store_refuses_cells_of_a_sample_without_genes(store):
    text = (store / "cells.tsv").read_text()
    (store / "cells.tsv").write_text(text.replace("\ts1", "\ts2", 1))
    with pytest.raises(ValueError, match=r"measured.npy has shape \(1, 40\).*each of 2 samples"):
        open_store(store)


@pytest.mark.parametrize("key", ["cells", "tokens", "n_bins", "vocabulary_sha256"])
def test_open_store_refuses_meta_without_a_key(store, key):
    meta = json.loads((store / "meta.json").read_text())
    del meta[key]
    (store / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=rf"meta.json is damaged: it lacks {key}. Write it again"):
        open_store(store)


def test_open_store_refuses_another_format(store):
    meta = json.loads((store / "meta.json").read_text())
    (store / "meta.json").write_text(json.dumps(meta | {"format": 2}))
    with pytest.raises(ValueError, match=r"has format 2, this version reads 1. Write it again"):
        open_store(store)


def test_open_store_refuses_a_pickle(store):
    np.save(store / "measured.npy", np.array([[print]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"measured.npy is damaged \(.*allow_pickle=False"):
        open_store(store)
