"""The GPU benchmark, every stage of it, in sizes for a CPU: a GPU is no place for first tries."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
