import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scbert.benchmark.run_method import MethodProgram, run_method

ROOT = Path(__file__).parents[2]
READS = "import argparse, sys\np = argparse.ArgumentParser()\n" + "".join(
    f"p.add_argument('--{name}')\n"
    for name in ("learned", "query", "answers", "seed", "threads", "more")
)


@pytest.fixture
def method(tmp_path):
    def make(body, options="", minutes=1.0):
        folder = tmp_path / "method"
        folder.mkdir()
        (folder / "predict.py").write_text(f"{READS}a = p.parse_args()\n{body}\n")
        (folder / "environment.yaml").write_text("dependencies:\n  - numpy =2\n  - nonesuch =1\n")
        return MethodProgram(folder, options, seed=7, threads=1, minutes=minutes)

    return make


def ran(method, folder):
    answers, run = folder / "answers.tsv", folder / "run.json"
    for name in ("learned", "query"):
        (folder / f"{name}.h5ad").touch()
    run_method(method, folder / "learned.h5ad", folder / "query.h5ad", answers, run)
    return answers.read_text(), json.loads(run.read_text())


@pytest.fixture(autouse=True)
def _own_handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_answers_and_costs_are_written(method, tmp_path):
    text = "open(a.answers, 'w').write(f'cell\\tlabel\\nx\\t{a.seed}{a.more}\\n')"
    answers, run = ran(method(text, "--more 'two words'"), tmp_path)
    assert answers == "cell\tlabel\nx\t7two words\n"
    assert (run["exit"], run["reason"]) == (0, "")
    assert run["seconds"] > 0
    assert run["peak_mb"] > 0
    assert run["versions"]["nonesuch"] == "not found"
    assert run["versions"]["numpy"][0] == "2"


def test_versions_are_of_all_that_the_environment_names(method, tmp_path):
    """With a version or without, quoted or by channel; a channel is no package."""
    one = method("open(a.answers, 'w').write('cell\\tlabel\\n')")
    (one.folder / "environment.yaml").write_text(
        "channels:\n  - conda-forge\ndependencies:\n  - scipy\n  - bioconda::anndata >=0.1  # why\n"
        "  - pip\n  - pip:\n      - 'pandas==2'\n      - nonesuch[more]\nvariables:\n  - torch\n"
    )
    _, run = ran(one, tmp_path)
    assert [*run["versions"]] == ["python", "scipy", "anndata", "pip", "pandas", "nonesuch"]
    assert run["versions"]["scipy"][0] == "1"


def test_memory_of_a_gpu_is_that_of_the_methods_own_processes(method, tmp_path, monkeypatch):
    """nvidia-smi of a machine on which another program computes, too."""
    folder, own = tmp_path / "bin", tmp_path / "pid"
    folder.mkdir()
    asked = folder / "nvidia-smi"
    asked.write_text(f'#!/bin/sh\necho "{os.getpid()}, 5000"\necho "$(cat {own}), 1200"\n')
    asked.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    said = f"import os, time\nopen({str(own)!r}, 'w').write(str(os.getpid()))\ntime.sleep(1.2)\n"
    _, run = ran(method(said + "open(a.answers, 'w').write('cell\\tlabel\\n')"), tmp_path)
    assert run["gpu_mb"] == 1200


def test_without_nvidia_smi_memory_of_a_gpu_is_unknown(method, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    _, run = ran(method("open(a.answers, 'w').write('cell\\tlabel\\n')"), tmp_path)
    assert run["gpu_mb"] is None


def test_a_failure_is_a_result_with_its_reason(method, tmp_path):
    answers, run = ran(method("raise ValueError('no genes')"), tmp_path)
    assert answers == "cell\tlabel\n"
    assert (run["exit"], run["reason"]) == (1, "ValueError: no genes")


def test_cells_that_vanish_are_no_failure_of_the_method(method, tmp_path):
    vanish = "import os\nos.unlink(a.query)\nopen(a.query)"
    with pytest.raises(FileNotFoundError, match=r"query\.h5ad vanished while method ran"):
        ran(method(vanish), tmp_path)
    assert not (tmp_path / "run.json").exists()


def test_what_takes_too_long_has_failed(method, tmp_path):
    _, run = ran(method("import time; time.sleep(60)", minutes=0.005), tmp_path)
    assert run["exit"] == 124
    assert "not done after" in run["reason"]


def test_what_writes_nothing_has_failed(method, tmp_path):
    _, run = ran(method("pass"), tmp_path)
    assert run["exit"] == 1
    assert "no answers" in run["reason"]


def test_what_was_killed_says_the_signal(method, tmp_path):
    _, run = ran(method("import os; os.kill(os.getpid(), 9)"), tmp_path)
    assert "signal 9" in run["reason"]


def test_what_is_told_to_stop_leaves_nothing(method, tmp_path):
    made = method("open('started', 'w'); import time; time.sleep(60)")
    words = {"folder": made.folder, "learned": "l", "query": "q", "answers": "a.tsv"}
    words |= {"run": "r.json", "seed": 1, "threads": 1, "minutes": 1}
    command = [sys.executable, str(ROOT / "scripts/run_benchmark_method.py")]
    command += [word for name, value in words.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    for _ in range(200):
        if (tmp_path / "started").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert not (tmp_path / "a.tsv").exists()
    assert not (tmp_path / "r.json").exists()
