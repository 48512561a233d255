"""Results of the workflow that are damaged between two steps."""

from pathlib import Path

import pytest

from scbert.written import recorded

FILES = ["results/a/b.json", "results/folder/c.npy"]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """What a step wrote: a file, and a folder with a file."""
    monkeypatch.chdir(tmp_path)
    paths = [Path("results/a/b.json"), Path("results/folder"), Path("config/own.tsv")]
    with recorded(paths):
        for path in (*map(Path, FILES), paths[-1]):
            path.parent.mkdir(parents=True)
            path.write_text("1")
    return paths


@pytest.mark.parametrize("file", FILES)
def test_a_result_that_was_changed_is_refused_until_its_record_is_deleted(written, file):
    with recorded(written):
        pass
    Path(file).write_text("2")
    with pytest.raises(ValueError, match=rf"{file} is not what was written.*Delete {file}"):
        recorded(written).__enter__()
    Path("results/.sha256", *Path(file).parts[1:]).unlink()
    with recorded(written):
        pass


def test_files_of_the_user_are_taken_as_they_are(written):
    written[-1].write_text("2")
    with recorded(written):
        pass
    assert {path.name for path in Path().iterdir()} == {"results", "config"}


@pytest.mark.parametrize("file", FILES)
def test_a_result_that_is_made_again_has_no_old_record(written, file):
    """A kill between writing and recording leaves it without one."""
    Path(file).unlink()
    with recorded([Path(file)]):
        Path(file).write_text("other")
    with recorded(written):
        pass


def test_models_and_token_stores_check_themselves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with recorded([Path("results/model")]):
        Path("results/model").mkdir(parents=True)
        Path("results/model/MANIFEST.sha256").touch()
    assert not Path("results/.sha256").exists()


def test_of_several_processes_the_first_alone_looks_and_records(written, monkeypatch):
    """Others may be slower: the first removes the checkpoints of a complete run meanwhile."""
    monkeypatch.setenv("RANK", "1")
    Path(FILES[0]).write_text("2")
    with recorded(written):
        Path("results/folder/new.npy").write_text("3")
    assert not Path("results/.sha256/folder/new.npy").exists()
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="is not what was written"):
        recorded(written).__enter__()
