import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scbert.files import lock, only_one, publish, read_json, sha256_of, write_json
from scbert.tables import read_table


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


def test_read_json_refuses_what_write_json_does(tmp_path):
    (tmp_path / "a.json").write_text('{"a": NaN}')
    with pytest.raises(ValueError, match=r"a.json is not valid JSON \(NaN is no number"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "content", [b"a\tb\n1\t2\t3\n4\t5\t6\n", b"a\tb\n1\t2\n1\t2\t3\n", b"", b"a\tb\n\xe4\t1\n"]
)
def test_read_table_refuses_what_is_no_table(tmp_path, content):
    """Where all lines are longer than the header, pandas would move all values by a column."""
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=r"t.tsv is not a table of a, b"):
        read_table(tmp_path / "t.tsv", "a", "b")


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
    assert "told to stop: no file is left half-written; give the same command" in done.stderr
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


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    write_folder(tmp_path / "out.h5ad", mine="kept")
    with (
        pytest.raises(ValueError, match=r"out\.h5ad is a folder, but a file is to be written"),
        publish(tmp_path / "out.h5ad") as unfinished,
    ):
        unfinished.write_text("new")
    assert names(tmp_path) == ["out.h5ad"]
    assert (tmp_path / "out.h5ad/mine").read_text() == "kept"


KILLED = """
import os, signal, sys
from pathlib import Path
from scbert.files import publish

with publish(Path(sys.argv[1])) as unfinished:
    unfinished.write_text("half")
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("ready", flush=True)
    sys.stdin.read()
"""


def start_writing(path, end):
    command = [sys.executable, "-c", KILLED, path, end]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes)


def test_what_a_killed_process_left_is_removed_by_the_next_for_the_same_output(tmp_path):
    """What another process still writes, or what only looks alike, stays."""
    out = tmp_path / "out.h5ad"
    with start_writing(out, "kill") as killed:
        assert killed.wait(timeout=60) == -9
    (left,) = tmp_path.iterdir()
    (tmp_path / ".out.h5ad.mine").mkdir()
    (tmp_path / ".out.h5ad.abcdefgh").mkdir()
    with publish(tmp_path / "other.h5ad") as unfinished:
        unfinished.write_text("x")
    assert left.exists()
    with start_writing(out, "wait") as writing:
        assert writing.stdout.readline() == "ready\n"
        assert not left.exists()
        with publish(out) as unfinished:
            unfinished.write_text("complete")
        assert len([name for name in names(tmp_path) if name.startswith(".out")]) == 3
        writing.communicate("", timeout=60)
    assert writing.returncode == 0
    assert names(tmp_path) == [".out.h5ad.abcdefgh", ".out.h5ad.mine", "other.h5ad", "out.h5ad"]


def test_a_result_that_a_killed_process_had_moved_comes_back(tmp_path):
    left = tmp_path / ".out.abcdefgh"
    write_folder(left)
    write_folder(left / "previous", mine="kept")
    (left / "scbert_is_writing.lock").touch()

    def fail():
        with publish(tmp_path / "out"):
            raise ValueError("again")

    with pytest.raises(ValueError, match="again"):
        fail()
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out/mine").read_text() == "kept"


def test_files_can_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        with publish(tmp_path / "model") as unfinished:
            write_folder(unfinished, a="1", b="2")
            (unfinished / "a").chmod(0o600)  # as safetensors does
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert modes == {"a": 0o640, "b": 0o640}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_is_told_to_stop_leaves_nothing_half_written(tmp_path, number):
    """SIGHUP: the terminal of a session is gone."""
    text = (
        "import signal, sys, time, pathlib\n"
        "from scbert.files import publish\n"
        "from scbert.logs import end_when_told\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # tests under nohup ignore it
        "end_when_told()\n"
        "with publish(pathlib.Path(sys.argv[1])) as unfinished:\n"
        "    unfinished.write_text('half')\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", text, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    assert list(tmp_path.iterdir()) == []
