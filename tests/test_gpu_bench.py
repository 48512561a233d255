"""The GPU benchmark, every stage of it, in sizes for a CPU: a GPU is no place for first tries."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_stage import Record
from benchmarks.gpu_weights import read_pieces, write_pieces

ROOT = Path(__file__).parents[1]
FINE = {"ok", "unsupported"}  # a CPU lacks most kernels of attention
STAGES = ["A", "B", "C", "D", "E", "F", "E2", "E3"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("gpu")
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--device", "cpu", "--small"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "--deadline", "600", "--out", str(out)], check=True, env=environment, cwd=out
    )
    return json.loads((out / "results.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_runs_to_its_end_without_an_error(results, stage):
    found = results["stages"][stage]
    assert found["status"] == "done"
    assert found["measurements"]
    wrong = {name: one for name, one in found["measurements"].items() if one["status"] not in FINE}
    assert not wrong


def test_a_measurement_that_fails_says_why_and_the_next_has_its_turn(tmp_path):
    record = Record(tmp_path / "B.json", 60)
    record.measure("wrong", lambda: {"n": 1 / 0})
    record.measure("no kernel", lambda: torch.zeros(1, dtype=torch.bool) - True)
    record.measure("right", lambda: {"n": 1})
    found = json.loads((tmp_path / "B.json").read_text())
    assert found["wrong"]["status"] == "error"
    assert "ZeroDivisionError" in found["wrong"]["traceback"][-1]
    assert found["no kernel"]["status"] == "unsupported"
    assert (found["right"]["status"], found["right"]["n"]) == ("ok", 1)


def test_a_stage_that_is_started_again_goes_on_behind_what_broke_the_device(tmp_path):
    def broken():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(SystemExit):
        Record(tmp_path / "C.json", 60).measure("breaks", broken)
    again = Record(tmp_path / "C.json", 60)
    again.measure("breaks", broken)
    again.measure("next", lambda: {"n": 1})
    assert [again.found[name]["status"] for name in ("breaks", "next")] == ["error", "ok"]


def test_no_measurement_begins_when_the_time_is_over(tmp_path):
    record = Record(tmp_path / "A.json", 0)
    record.measure("late", lambda: {"n": 1})
    assert record.found["late"] == {"status": "no time left"}


def test_weights_come_back_from_their_pieces_or_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_weights.PIECE", 100)
    weights = {"layer.weight": torch.arange(60.0).reshape(6, 10)}
    found = write_pieces(weights, tmp_path, "weights_E")
    assert found["weights_pieces"] > 1
    results = {"stages": {"E": {"measurements": {"pretraining": found}}}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert torch.equal(read_pieces(tmp_path, "weights_E")["layer.weight"], weights["layer.weight"])
    with pytest.raises(ValueError, match="knows no weights called other"):
        read_pieces(tmp_path, "other")
    (tmp_path / "weights_E.part1").write_bytes(b"other")
    with pytest.raises(ValueError, match="not what was written"):
        read_pieces(tmp_path, "weights_E")
