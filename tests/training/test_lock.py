import json
import os
import socket
import subprocess
import sys

import pytest

from scbert.training import lock
from scbert.training.lock import only_trainer

HOLD = """
import sys
from pathlib import Path
from scbert.training.lock import only_trainer
with only_trainer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def leave_record(folder, **holder):
    """What a trainer leaves that was killed."""
    folder.mkdir()
    record = {"host": socket.gethostname(), "process": 1, "since": "yesterday"} | holder
    (folder / "holder.json").write_text(json.dumps(record))
    return folder


def test_only_trainer_keeps_a_second_process_out_and_names_the_first(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        expected = rf"in use by another trainer \(process {other.pid} on .*Wait until it is done"
        with pytest.raises(ValueError, match=expected), only_trainer(tmp_path):
            pass
        other.kill()
        other.wait()
        assert (tmp_path / "holder.json").is_file()  # it could not clean up
        with only_trainer(tmp_path):
            holder = json.loads((tmp_path / "holder.json").read_text())
            assert holder["process"] == os.getpid()


def test_only_trainer_leaves_nothing_in_the_way(tmp_path):
    for _ in range(2):
        with only_trainer(tmp_path / "new"):
            pass
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock"]


def test_a_lock_of_a_dead_process_is_taken_over_and_explained(tmp_path, caplog):
    caplog.set_level("INFO", "scbert")
    with only_trainer(leave_record(tmp_path / "state")):
        pass
    assert "took over the stale lock of process 1 on" in caplog.text
    assert "since yesterday, which is no longer running" in caplog.text


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_a_damaged_record_keeps_nobody_out(tmp_path, content):
    folder = leave_record(tmp_path / "run")
    (folder / "holder.json").write_text(content)
    with only_trainer(folder, silence=0.01):
        pass


def test_a_silent_holder_on_another_host_is_taken_over(tmp_path, caplog):
    caplog.set_level("INFO", "scbert")
    with only_trainer(leave_record(tmp_path / "state", host="node7"), silence=0.05):
        pass
    assert "process 1 on node7" in caplog.text


def test_a_holder_on_another_host_that_still_writes_is_respected(tmp_path, monkeypatch):
    """On a file system that knows flock within each host only."""
    folder = leave_record(tmp_path / "state", host="node7")
    monkeypatch.setattr(lock.time, "sleep", lambda _: os.utime(folder / "holder.json"))
    expected = r"in use by another trainer \(process 1 on node7"
    with pytest.raises(ValueError, match=expected), only_trainer(folder, silence=60):
        pass


def test_the_holder_touches_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 0.001)
    record = tmp_path / "holder.json"
    with only_trainer(tmp_path):
        os.utime(record, (0, 0))
        while record.stat().st_mtime == 0:
            pass


def test_a_failure_frees_the_folder(tmp_path):
    with pytest.raises(RuntimeError), only_trainer(tmp_path):
        raise RuntimeError
    assert not (tmp_path / "holder.json").exists()
