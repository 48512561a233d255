"""The page of the GPU benchmark is what its numbers give, and a run that lacks some has no page."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs/results/gpu.json"


def write_page(source, out, *more):
    script = str(ROOT / "benchmarks/gpu_table.py")
    return subprocess.run(
        [sys.executable, script, str(source), "--to", str(out), *more],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_is_what_the_kept_numbers_give(tmp_path):
    done = write_page(KEPT, tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("gpu.md", "gpu.json"):
        assert (tmp_path / name).read_text() == (ROOT / "docs/results" / name).read_text()
    assert (tmp_path / "gpu.svg").read_text().count("small encoder") == 1


def test_a_run_gives_the_numbers_that_are_kept_and_the_commit_it_is_told(tmp_path):
    results = json.loads(KEPT.read_text())
    del results["head"]["checkout"]
    step = {"step": 7, "train_loss": 0.7}
    history = results["stages"]["E"]["measurements"]["history"]["history"]
    history.insert(0, step)
    (tmp_path / "results.json").write_text(json.dumps(results))
    told = "told to stop: step 123 is kept in /tmp/x/E2_checkpoint, and"
    (tmp_path / "log.txt").write_text(told)
    done = write_page(tmp_path, tmp_path, "--commit", "abc1234")
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert kept["head"]["commit"] == "abc1234"
    assert kept["head"]["checkout"] == results["head"]["commit"]
    assert step not in kept["stages"]["E"]["measurements"]["history"]["history"]
    assert "told to stop at step 123 of" in (tmp_path / "gpu.md").read_text()


@pytest.mark.parametrize("stage", ["A", "B", "C", "D", "E", "E2", "E3"])
def test_a_run_without_a_stage_is_refused_before_anything_is_written(stage, tmp_path, monkeypatch):
    results = json.loads(KEPT.read_text())
    first = next(iter(results["stages"][stage]["measurements"].values()))
    first["status"] = "no time left"
    source = tmp_path / "cut.json"
    source.write_text(json.dumps(results))
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(sys, "argv", ["gpu_table.py", str(source), "--to", str(tmp_path)])
    with pytest.raises(ValueError, match="Run make bench-gpu again"):
        runpy.run_path(str(ROOT / "benchmarks/gpu_table.py"), run_name="__main__")
    assert not (tmp_path / "gpu.md").exists()
