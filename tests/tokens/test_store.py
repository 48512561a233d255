"""Reading a token store, and refusing one that is not what was written."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scbert.files import checksum_line, read_json, sha256_of
from scbert.tokens import store as store_module
from scbert.tokens import store_files
from scbert.tokens.store import open_store, store_in_memory
from scbert.tokens.store_writer import SampleSource, write_store
from scbert.tokens.tokenize import Sample, levels_of_expression

META = {"n_bins": 5, "vocabulary_size": 40, "vocabulary_sha256": "abc"}
ARRAYS = ("gene.u16", "level.u8", "indptr.i64", "sample.u32", "measured.u8")
FILES = (*ARRAYS, "cells.tsv", "meta.json", "meta.sha256")


def sample(name="s1", n_cells=6, n_genes=40, seed=0):
    """Cells with 0 to a few tokens; the last two genes were not measured."""
    rng = np.random.default_rng(seed)
    expression = rng.uniform(-6, 8, (n_cells, n_genes)).clip(min=0).astype(np.float32)
    expression[:, -2:] = 0
    expression[1:2] = 0
    levels = levels_of_expression(sparse.csr_matrix(expression))
    cells = [f"{name}_cell{number}" for number in range(n_cells)]
    below_one = int(((expression > 0) & (expression < 1)).sum())
    return Sample(name, cells, levels, 5, np.arange(n_genes - 2), below_one)


def write(folder, samples, **meta):
    sources = [SampleSource(one.name, f"sha of {one.name}", lambda one=one: one) for one in samples]
    return write_store(folder, sources, META | meta)


@pytest.fixture
def store(tmp_path):
    write(tmp_path / "tokens", [sample(), sample("s2", n_cells=3, seed=1)])
    return tmp_path / "tokens"


def sign(store):
    """Make sizes and checksums agree with the files: only what they hold can be refused then."""
    meta = read_json(store / "meta.json")
    for name, entry in meta["files"].items():
        entry |= {"bytes": (store / name).stat().st_size, "sha256": sha256_of(store / name)}
    write_meta(store, meta)


def write_meta(store, meta):
    (store / "meta.json").write_text(json.dumps(meta))
    (store / "meta.sha256").write_bytes(checksum_line(store / "meta.json"))


def test_store_in_memory_of_two_cells():
    """Gene 3 was not measured: unknown, not silent."""
    levels = levels_of_expression(sparse.csr_matrix([[0, 2.5, 7.0, 0], [0.5, 0, 0, 0]]))
    store = store_in_memory(Sample("s", ["a", "b"], levels, 5, np.array([0, 1, 2]), 1))
    assert len(store) == 2
    assert [part.tolist() for part in store.tokens(0)] == [[1, 2], [2, 5]]
    assert [part.tolist() for part in store.tokens(1)] == [[], []]
    assert store.lengths().tolist() == [2, 0]
    assert store.measured_genes(1).tolist() == [0, 1, 2]
    assert store.cell_names() == ["a", "b"]
    assert store.cell_names(np.array([1])) == ["b"]


def test_a_store_on_disk_equals_the_one_in_memory(tmp_path):
    samples = [sample("s1"), sample("s2", n_cells=3, seed=1)]
    write(tmp_path / "tokens", samples)
    on_disk = open_store(tmp_path / "tokens")
    cells = 0
    for number, one in enumerate(samples):
        in_memory = store_in_memory(one)
        for cell in range(len(in_memory)):
            for found, expected in zip(on_disk.tokens(cells), in_memory.tokens(cell), strict=True):
                assert found.dtype == expected.dtype
                assert found.tolist() == expected.tolist()
            assert on_disk.sample[cells] == number
            assert on_disk.measured_genes(cells).tolist() == list(range(38))
            cells += 1
    assert len(on_disk) == cells == 9
    assert on_disk.cell_names() == samples[0].cells + samples[1].cells
    assert all(
        isinstance(array, np.memmap)
        for array in (on_disk.gene, on_disk.level, on_disk.indptr, on_disk.sample, on_disk.measured)
    )


def test_cell_names_come_in_the_order_asked_for(tmp_path, monkeypatch):
    """Also across the parts in which the table is read, and whatever a name holds."""
    names = ["NA", 'a "b"', "c\td", "", "e\nf", "ä", "1e5"]
    one = sample(n_cells=len(names))
    odd = replace(one, cells=names)
    write(tmp_path / "tokens", [odd])
    monkeypatch.setattr(store_module, "NAMES_AT_ONCE", 3)
    rows = np.array([5, 0, 6, 3, 5])
    assert open_store(tmp_path / "tokens").cell_names(rows) == [names[row] for row in rows]
    assert open_store(tmp_path / "tokens").cell_names() == names


def test_open_store_without_reading_it_checks_sizes(store):
    """For the other processes of a machine, of which one has read all."""
    path = store / "level.u8"
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole)))
    assert len(open_store(store, verify=False)) == open_store(store, verify=False).meta["cells"]
    with pytest.raises(ValueError, match="level 0 at 0 is not in 16 to 255"):
        open_store(store)
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"level.u8 is damaged: it has \d+ bytes"):
        open_store(store, verify=False)


def test_a_store_says_what_it_is_made_of(store):
    meta = open_store(store).meta
    assert meta["sources"] == [
        {"sample": "s1", "sha256": "sha of s1", "cells": 6, "measured_genes": 38},
        {"sample": "s2", "sha256": "sha of s2", "cells": 3, "measured_genes": 38},
    ]
    assert {name: entry["sha256"] for name, entry in meta["files"].items()} == {
        name: sha256_of(store / name) for name in (*ARRAYS, "cells.tsv")
    }
    assert sorted(path.name for path in store.iterdir()) == sorted(FILES)
    assert (store / "meta.sha256").read_text() == f"{sha256_of(store / 'meta.json')}  meta.json\n"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "longer"])
def test_open_store_names_a_damaged_file(store, name, damage):
    path = store / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            {"empty": b"", "half": content[: len(content) // 2], "longer": content + b"\0" * 8}[
                damage
            ]
        )
    with pytest.raises(ValueError, match=rf"{name}.*[Ww]rite.* (again|it again)"):
        open_store(store)


CHANGES = {
    "indptr falls": ("indptr.i64", "<i8", 3, -10_000, "does not rise from 0 to"),
    "indptr starts late": ("indptr.i64", "<i8", 0, 1, "does not rise from 0 to"),
    "indptr ends early": ("indptr.i64", "<i8", -1, -1, "does not rise from 0 to"),
    "a third sample": ("sample.u32", "<u4", -1, 1, r"sample 2 at 8 is not in 0 to 1"),
    "no truth value": ("measured.u8", "u1", 3, 1, r"truth value 2 at 3 is not in 0 to 1"),
    "a level too low": ("level.u8", "u1", 0, -31, r"level \d+ at 0 is not in 16 to 255"),
    "a gene too high": ("gene.u16", "<u2", -1, 40, r"gene \d+ is not in the vocabulary of 40"),
    "genes not ascending": ("gene.u16", "<u2", 1, -40, r"is not in|genes of cell 0 are not in asc"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("part", [2, store_files.PART])
def test_open_store_refuses_what_a_store_cannot_hold(store, change, part, monkeypatch):
    """Whatever the checksums say, and wherever the parts in which files are read end."""
    name, dtype, place, by, message = CHANGES[change]
    values = np.fromfile(store / name, dtype)
    values[place] += np.array(by).astype(dtype)
    values.tofile(store / name)
    sign(store)
    monkeypatch.setattr(store_files, "PART", part)
    with pytest.raises(ValueError, match=rf"{name} is damaged: .*({message}).*write the store ag"):
        open_store(store)


@pytest.mark.parametrize("swap", [0, 1, 2])
def test_open_store_refuses_genes_that_do_not_ascend(store, swap, monkeypatch):
    """Also where one part of the file ends and the next begins."""
    genes = np.fromfile(store / "gene.u16", "<u2")
    genes[[swap, swap + 1]] = genes[[swap + 1, swap]]
    genes.tofile(store / "gene.u16")
    sign(store)
    monkeypatch.setattr(store_files, "PART", 2)
    with pytest.raises(ValueError, match=r"gene.u16 is damaged: the genes of cell 0 are not in as"):
        open_store(store)


@pytest.mark.parametrize("part", [1, 2, 3, 5])
def test_open_store_takes_a_good_store_in_parts_of_any_length(store, part, monkeypatch):
    monkeypatch.setattr(store_files, "PART", part)
    assert len(open_store(store)) == 9


def test_open_store_refuses_meta_that_is_no_object(store):
    write_meta(store, [read_json(store / "meta.json")])
    with pytest.raises(ValueError, match=r"meta.json is damaged: it holds no object\. Delete"):
        open_store(store)


@pytest.mark.parametrize("key", ["cells", "tokens", "n_bins", "vocabulary_sha256", "files"])
def test_open_store_refuses_meta_without_a_key(store, key):
    meta = read_json(store / "meta.json")
    del meta[key]
    write_meta(store, meta)
    with pytest.raises(ValueError, match=rf"meta.json is damaged: it lacks {key}\. Delete"):
        open_store(store)


@pytest.mark.parametrize("value", ["9", -1, 2.5, None, True])
def test_open_store_refuses_meta_that_counts_nothing(store, value):
    write_meta(store, read_json(store / "meta.json") | {"cells": value})
    with pytest.raises(ValueError, match=r"meta.json is damaged: cells is .*not a number of"):
        open_store(store)


def test_open_store_refuses_another_format(store):
    meta = read_json(store / "meta.json")
    write_meta(store, meta | {"format": 2})
    with pytest.raises(ValueError, match=r"has format 2, this version reads 3. Write the store ag"):
        open_store(store)
    (store / "meta.sha256").unlink()
    with pytest.raises(ValueError, match=r"meta.sha256 is damaged: .*of format 1.*write the store"):
        open_store(store)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """A good store, and a folder for its damaged copy."""
    folder = tmp_path_factory.mktemp("fuzz")
    write(folder / "good", [sample(), sample("s2", n_cells=3, seed=1)])
    return SimpleNamespace(good=folder / "good", bad=folder / "bad")


@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(FILES),
    damage=st.sampled_from(["flip", "cut", "delete", "insert", "overwrite"]),
    place=st.floats(0, 1, exclude_max=True),
    content=st.binary(min_size=1, max_size=20),
    also_gone=st.none() | st.sampled_from(FILES),
)
def test_open_store_refuses_any_damage_by_name(fuzzed, name, damage, place, content, also_gone):
    """Every file has a checksum, so that no damage is read as cells: not even of a name."""
    shutil.rmtree(fuzzed.bad, ignore_errors=True)
    shutil.copytree(fuzzed.good, fuzzed.bad)
    path = fuzzed.bad / name
    before = path.read_bytes()
    at = int(place * len(before))
    flipped = bytes([before[at] ^ (1 << content[0] % 8)])
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(
            {
                "flip": before[:at] + flipped + before[at + 1 :],
                "cut": before[:at],
                "insert": before[:at] + content + before[at:],
                "overwrite": before[:at] + content + before[at + len(content) :],
            }[damage]
        )
    unharmed = path.is_file() and path.read_bytes() == before
    if also_gone:
        (fuzzed.bad / also_gone).unlink(missing_ok=True)
    elif unharmed:
        assert len(open_store(fuzzed.bad)) == 9
        return
    with pytest.raises(ValueError, match=r"is damaged|does not exist") as refused:
        open_store(fuzzed.bad)
    assert any(file in str(refused.value) for file in (name, also_gone) if file)
