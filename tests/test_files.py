import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scbert.files import lock, only_one, publish, read_json, sha256_of, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_folder(path, **files):
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)


def test_publish_shows_a_file_only_when_it_is_complete(tmp_path):
    target = tmp_path / "deep/er/counts.tsv"
    with publish(target) as unfinished:
        unfinished.write_text("half")
        assert unfinished.name == target.name
        assert not target.exists()
    assert target.read_text() == "half"
    assert names(target.parent) == ["counts.tsv"]


def test_publish_replaces_a_file_and_a_folder(tmp_path):
    for _ in range(2):
        with publish(tmp_path / "file") as unfinished:
            unfinished.write_text("new")
        with publish(tmp_path / "folder") as unfinished:
            write_folder(unfinished, a="new")
    (tmp_path / "folder/old").write_text("old")
    with publish(tmp_path / "folder") as unfinished:
        write_folder(unfinished, a="newer")
    assert names(tmp_path) == ["file", "folder"]
    assert names(tmp_path / "folder") == ["a"]
    assert (tmp_path / "folder/a").read_text() == "newer"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_publish_leaves_what_stood_there_on_an_error(tmp_path, error):
    (tmp_path / "file").write_text("old")
    write_folder(tmp_path / "folder", a="old")

    def fail(path, write):
        with publish(path) as unfinished:
            write(unfinished)
            raise error("on the way")

    with pytest.raises(error, match="on the way"):
        fail(tmp_path / "file", lambda path: path.write_text("half"))
    with pytest.raises(error, match="on the way"):
        fail(tmp_path / "folder", lambda path: write_folder(path, a="half", b="half"))
    with pytest.raises(error, match="on the way"):
        fail(tmp_path / "new", lambda path: path.write_text("half"))
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path / "folder") == ["a"]
    assert (tmp_path / "folder/a").read_text() == "old"


def test_publish_keeps_the_old_when_nothing_was_written(tmp_path):
    """The folder had been moved away before, and was deleted with the workspace."""
    (tmp_path / "file").write_text("old")
    write_folder(tmp_path / "folder", a="old")
    for name in ("file", "folder", "new"):
        with pytest.raises(FileNotFoundError), publish(tmp_path / name):
            pass
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "folder/a").read_text() == "old"


def test_publish_keeps_an_old_file_that_a_folder_cannot_replace(tmp_path):
    (tmp_path / "result").write_text("old")
    with pytest.raises(NotADirectoryError), publish(tmp_path / "result") as unfinished:
        write_folder(unfinished, a="new")
    assert (tmp_path / "result").read_text() == "old"
    assert names(tmp_path) == ["result"]


def test_json_comes_back(tmp_path):
    content = {"name": "T cell", "shares": [0.25, 1, None], "nested": {"yes": True}}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert (tmp_path / "a.json").read_text().endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_write_json_refuses_nan_and_infinity_and_keeps_the_old(tmp_path, value):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"score": value})
    assert read_json(tmp_path / "a.json") == 1
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [b'{"cells": 3', b"\xff\xfe", b""])
def test_read_json_names_a_damaged_file(tmp_path, content):
    (tmp_path / "meta.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"meta.json is not valid JSON \(.*Make it again"):
        read_json(tmp_path / "meta.json")


def test_sha256_of_the_standard_example(tmp_path):
    """FIPS 180-2, appendix B.1."""
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == expected


def test_only_one_refuses_a_second_process_and_leaves_nothing(tmp_path):
    with (
        only_one(tmp_path / "tokens"),
        pytest.raises(ValueError, match=r"tokens is being made by another process.*tokens\.lock"),
        only_one(tmp_path / "tokens"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_one_says_where_there_are_no_locks(tmp_path, monkeypatch):
    def flock(_file, _operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with (
        pytest.raises(ValueError, match=r"\.tokens\.lock cannot be locked .*Mount the file system"),
        only_one(tmp_path / "tokens"),
    ):
        pass


@pytest.mark.parametrize("keep", [False, True])
def test_lock_waits_its_turn(tmp_path, keep):
    """Each of four adds to a number 25 times; what two read at once would count once."""
    number = tmp_path / "number"
    number.write_text("0")

    def count():
        for _ in range(25):
            with lock(tmp_path / "lock", wait=True, keep=keep):
                number.write_text(str(int(number.read_text()) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert number.read_text() == "100"
    assert (tmp_path / "lock").exists() == keep


WRITES = """
import os, signal, sys
from pathlib import Path
from scbert.config import run_step
from scbert.files import publish
sys.argv[1:] = ["--out", "result"]
def write(out: Path):
    with publish(out) as unfinished:
        unfinished.write_text("half")
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:  # torchrun passes on what Slurm has told already
            os.kill(os.getpid(), signal.SIGTERM)
run_step(write, "doc")
"""


def test_a_script_that_is_told_to_stop_leaves_nothing_half_written(tmp_path):
    """Its exit code says why, and what stood there before is untouched."""
    (tmp_path / "result").write_text("before")
    done = subprocess.run(
        [sys.executable, "-c", WRITES],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 143
    assert "told to stop: no file is left half-written" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
    assert (tmp_path / "result").read_text() == "before"


def test_publish_puts_a_folder_back_when_it_is_interrupted_between_two_renames(
    tmp_path, monkeypatch
):
    (tmp_path / "result").mkdir()
    (tmp_path / "result/old").touch()

    def interrupted(path, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), publish(tmp_path / "result") as unfinished:
        unfinished.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["result", "old"]
