"""That the harness of `make test-faults` sees what must not be."""

import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.faults.damage import EXECUTED, Payload
from tests.faults.page import Row, save, write_page
from tests.faults.results import differing, digests
from tests.faults.watched import outcome


def refuse(message):
    raise ValueError(message)


@pytest.mark.parametrize(
    ("read", "verdict"),
    [
        (lambda folder: b"\x01", "read"),
        (lambda folder: refuse("cells.h5ad is damaged: write it again"), "refused"),
        (lambda folder: refuse("bad cells.h5ad"), "said too little"),
        (
            lambda folder: refuse("a message that does not say which file it means"),
            "said too little",
        ),
        (lambda folder: {}["x"], "raised"),
        (lambda folder: np.ones(2**33), "raised"),
        (lambda folder: os.kill(os.getpid(), signal.SIGKILL), "crashed"),
        (lambda folder: (folder / "in.txt").write_text("x") and b"\x01", "read"),
        (lambda folder: (folder.parent / "out.txt").write_text("x"), "wrote outside"),
        (lambda folder: (folder.parent / "out").mkdir(), "wrote outside"),
        (lambda folder: pickle.loads(pickle.dumps(Payload())), "started something"),
        (lambda folder: os.system("true"), "started something"),
    ],
)
def test_outcome_of_what_a_reader_does(tmp_path, monkeypatch, read, verdict):
    folder = tmp_path / "try"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert outcome(lambda: read(folder), folder, ("cells.h5ad",))[0] == verdict
    assert not Path(EXECUTED).exists() or verdict == "started something"


def test_results_are_the_same_whenever_and_wherever_they_were_made(tmp_path):
    for name, seconds in (("a", 1), ("b", 2)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "x.json").write_text(f'{{"seconds": {seconds}, "f1": 0.5}}')
        (folder / "x.md").write_text(f"made on 2026-01-0{seconds} in {seconds}.5 s")
    assert differing(tmp_path / "b", digests(tmp_path / "a")) == []
    (tmp_path / "b/x.json").write_text('{"seconds": 1, "f1": 0.6}')
    assert differing(tmp_path / "b", digests(tmp_path / "a")) == ["x.json"]


def test_the_page_counts_what_is_unexplained(tmp_path):
    row = Row("a fault")
    for verdict in ("same", "refused", "crashed"):
        row.add(verdict)
    save(tmp_path / "kills.json", row)
    assert write_page(tmp_path / "page.md", tmp_path, seed=1) == 1
    assert "| a fault | 3 | 1 | 0 | 1 | 1 |  |" in (tmp_path / "page.md").read_text()
