"""Writing a token store: what is counted, and that a writer that was killed leaves none."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from scbert.config import Binning
from scbert.files import IN_USE, only_one, sha256_of
from scbert.steps.bin_expression import bin_expression as step
from scbert.steps.normalize_counts import normalize_counts
from scbert.tokens import store_files, store_writer
from scbert.tokens.store import open_store
from scbert.tokens.store_writer import SampleSource, write_store
from scbert.tokens.tokenize import Sample, bins_of_levels, levels_of_expression
from tests.samples import sample_of

META = {"n_bins": 5, "vocabulary_size": 40, "vocabulary_sha256": "abc"}


def sample(name="s1", n_cells=6, n_genes=40, seed=0):
    """Cells with 0 to a few tokens."""
    expression = np.random.default_rng(seed).uniform(-6, 8, (n_cells, n_genes)).clip(min=0)
    expression[1:2] = 0
    levels = levels_of_expression(sparse.csr_matrix(expression))
    cells = [f"{name}_cell{number}" for number in range(n_cells)]
    below_one = int(((expression > 0) & (expression < 1)).sum())
    return Sample(name, cells, levels, 5, np.arange(n_genes), below_one)


def without_cells(name="none"):
    return sample_of(name, [], sparse.csr_matrix((0, 40), dtype=np.uint8), np.arange(30), 0)


def source(one, sha256="1"):
    return SampleSource(one.name, sha256, lambda: one)


def write(folder, *samples, **meta):
    return write_store(folder, [source(one) for one in samples], META | meta)


def content(folder):
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


def test_write_store_says_what_it_counted(tmp_path):
    """Expressed genes below 1 stand in bin 0; silent genes nowhere."""
    samples = [sample(), sample("s2", n_cells=3, seed=1)]
    written = write(tmp_path / "tokens", *samples)
    dense = bins_of_levels(np.concatenate([one.levels.toarray() for one in samples]), 5)
    assert written["bins"] == {"0": sum(one.below_one for one in samples)} | {
        str(number): int((dense == number).sum()) for number in range(1, 6)
    }
    assert written["bins"]["0"] > 0
    assert written["cells"] == 9
    assert written["tokens"] == np.count_nonzero(dense)
    assert written["vocabulary_sha256"] == "abc"
    assert open_store(tmp_path / "tokens").meta == written


@pytest.mark.parametrize("n_cells", [1, 2, 5, 6])
def test_write_store_counts_tokens_per_cell(tmp_path, n_cells, monkeypatch):
    monkeypatch.setattr(store_writer, "PART", 2)
    one = sample(n_cells=n_cells, seed=n_cells)
    per_cell = one.levels.getnnz(axis=1)
    assert write(tmp_path / "tokens", one)["tokens_per_cell"] == {
        "min": per_cell.min(),
        "median": np.median(per_cell),
        "max": per_cell.max(),
    }


def test_write_store_gives_the_same_bytes_again_and_replaces_a_store(tmp_path):
    write(tmp_path / "tokens", sample(), sample("s2", seed=3))
    write(tmp_path / "again", sample())
    write(tmp_path / "tokens", sample())
    assert content(tmp_path / "tokens") == content(tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "tokens"]


def test_a_sample_without_cells_keeps_its_place(tmp_path):
    """Quality control left it out; the numbers of the other samples stay those of the table."""
    write(tmp_path / "tokens", without_cells("a"), sample(n_cells=2), without_cells("b"))
    store = open_store(tmp_path / "tokens")
    assert [entry["cells"] for entry in store.meta["sources"]] == [0, 2, 0]
    assert store.sample.tolist() == [1, 1]
    assert store.measured.sum(axis=1).tolist() == [30, 40, 30]
    assert store.cell_names() == ["s1_cell0", "s1_cell1"]


def test_a_store_of_cells_without_tokens_can_be_opened(tmp_path):
    empty = sample_of("s", ["a", "b"], sparse.csr_matrix((2, 40), dtype=np.uint8), np.arange(4), 3)
    write(tmp_path / "tokens", empty)
    store = open_store(tmp_path / "tokens")
    assert store.lengths().tolist() == [0, 0]
    assert store.meta["bins"]["0"] == 3


def test_genes_above_32767_keep_their_number(tmp_path):
    """uint16: 65,535 is the largest vocabulary that the configuration allows."""
    bins = sparse.csr_matrix(([1, 5], [40_000, 65_534], [0, 2]), shape=(1, 65_535), dtype=np.uint8)
    one = sample_of("s", ["a"], bins, np.array([40_000, 65_534]), 0)
    write(tmp_path / "tokens", one, vocabulary_size=65_535)
    assert open_store(tmp_path / "tokens").tokens(0)[0].tolist() == [40_000, 65_534]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "there is no file of cells to write. Name at least one"),
        ([sample("s1"), sample("s1")], "'s1' appears twice.*give the files other names"),
        ([without_cells("a"), without_cells("b")], "none of the 2 samples has a cell.*quality con"),
    ],
    ids=["none", "twice", "empty"],
)
def test_write_store_refuses_what_is_no_corpus(tmp_path, samples, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "tokens", *samples)
    assert list(tmp_path.iterdir()) == []


def failing(name="s2"):
    def read():
        raise OSError("disk")

    return SampleSource(name, "1", read)


def test_write_store_keeps_the_old_store_when_a_sample_fails(tmp_path):
    write(tmp_path / "tokens", sample())
    old = content(tmp_path / "tokens")
    with pytest.raises(OSError, match="disk"):
        write_store(tmp_path / "tokens", [source(sample("s3")), failing()], META)
    assert content(tmp_path / "tokens") == old
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


def test_write_store_takes_nothing_from_what_a_killed_run_left(tmp_path):
    unfinished = tmp_path / ".tokens.0a1b2c3d"  # as `publish` names them
    (unfinished / "tokens").mkdir(parents=True)
    (unfinished / IN_USE).touch()
    for name in ("gene.u16", "cells.tsv"):
        (unfinished / "tokens" / name).write_text("half")
    write(tmp_path / "tokens", sample())
    write(tmp_path / "again", sample())
    assert content(tmp_path / "tokens") == content(tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "tokens"]


def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    """Neither of the writer nor of the reader; parts are small here, as samples are.

    Twenty times the samples take 1.13 times the memory; threads of other tests may add to it.
    """
    monkeypatch.setattr(store_writer, "PART", 1 << 14)
    monkeypatch.setattr(store_files, "PART", 1 << 14)
    one = sample(n_cells=300, n_genes=500)

    def corpus(folder, n_samples):
        sources = [SampleSource(f"s{n}", "1", lambda: one) for n in range(n_samples)]
        write_store(folder, sources, META | {"vocabulary_size": 500})

    few, many = tmp_path / "few", tmp_path / "many"
    assert peak(lambda: corpus(many, 60)) < 1.5 * peak(lambda: corpus(few, 3))
    assert (many / "gene.u16").stat().st_size > 3 * peak(lambda: open_store(many))


def peak(run):
    run()  # what is imported or cached at the first call stays
    tracemalloc.start()
    run()
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest


def test_write_store_refuses_a_second_writer(tmp_path):
    with (
        only_one(tmp_path / "tokens"),
        pytest.raises(ValueError, match=r"tokens is being made by another process.*\.tokens\.lock"),
    ):
        write(tmp_path / "tokens", sample())
    write(tmp_path / "tokens", sample())
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


# A process of its own that forks a writer for each point and lets it kill itself there. A point is
# the name of a function of store_writer, the number of its call, and whether before or after it.
KILLED = {
    "in the first sample": ("_append", 1, "before"),
    "between samples": ("_append", 2, "after"),
    "with one file on the disk": ("_wait_for_disk", 1, "after"),
    "with all files on the disk": ("_wait_for_disk", 6, "after"),
    "before the checksum": ("checksum_line", 1, "before"),
    "before the rename": ("_complete", 1, "after"),
}
KILLER = """
import json, os, signal, sys
from pathlib import Path
from scbert.tokens import store_files, store_writer
from scbert.config import Binning
from scbert.steps.bin_expression import bin_expression
from tests.samples import sample_of

folder, vocabulary, points = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
for point, (name, number, when) in points.items():
    child = os.fork()
    if child == 0:
        original, calls = getattr(store_writer, name), 0

        def deadly(*given):
            global calls
            calls += 1
            if calls == number and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*given)
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(store_writer, name, deadly)
        expressions = [folder / f"s{number}.h5ad" for number in (1, 2, 3)]
        bin_expression(expressions, vocabulary, folder / point / "tokens", Binning(n_bins=5))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (point, status)
"""


@pytest.fixture(scope="module")
def killed(toy, tmp_path_factory):
    """Three files of expression, and for each point the folder of a writer that was killed."""
    root = tmp_path_factory.mktemp("killed")
    config = toy.config()
    paths = toy.run_to_tokens(root / "run", toy.draw_cells(), config)
    for number in (1, 2, 3):
        cells = toy.draw_cells(20 + number, seed=number)
        cells.var["symbol"], cells.var["gene_id"] = cells.var_names, cells.var.gene_ids
        cells.obs["library_size"] = np.asarray(cells.X.sum(axis=1)).ravel()
        cells.write_h5ad(root / f"counts{number}.h5ad")
        normalize_counts(
            *(root / f"counts{number}.h5ad", paths.vocabulary, root / f"s{number}.h5ad"),
            *(root / f"s{number}.json", config.normalization),
        )
    subprocess.run(
        [sys.executable, "-c", KILLER, root, paths.vocabulary, json.dumps(KILLED)],
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    expressions = [root / f"s{number}.h5ad" for number in (1, 2, 3)]
    step(expressions, paths.vocabulary, root / "whole/tokens", Binning(n_bins=5))
    return root, paths.vocabulary


@pytest.mark.slow
@pytest.mark.parametrize("point", KILLED)
def test_a_writer_that_was_killed_begins_anew(killed, point):
    """To the bytes of a run that nobody stopped, and what was left is gone."""
    root, vocabulary = killed
    expressions = [root / f"s{number}.h5ad" for number in (1, 2, 3)]
    assert not (root / point / "tokens").exists()
    step(expressions, vocabulary, root / point / "tokens", Binning(n_bins=5))
    assert content(root / point / "tokens") == content(root / "whole/tokens")
    assert [path.name for path in (root / point).iterdir()] == ["tokens"]
