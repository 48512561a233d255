"""Real processes that are killed, and what the next one makes of what they leave.

One process imports torch and forks a child for each run; a child counts its function calls and ends
itself by SIGKILL at the one it is told. So a moment may be anywhere in the work.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.timing import TIMING

ROOT = Path(__file__).parents[2]
N_KILLS = 10


def resumable(config, change):
    """Three epochs of eight steps, each with a checkpoint; dropout, and new projections."""
    optimizer = change(
        config.pretrain.optimizer,
        epochs=3,
        tokens_per_batch=256,
        log_steps=1,
        checkpoints={"steps": 1, "minutes": 0, "keep": 2},
    )
    pretraining = change(config.pretrain, optimizer=optimizer.model_dump(), redraw_interval=2)
    network = change(config.network, dropout=0.1, depth=1)
    return config.model_copy(update={"pretrain": pretraining, "network": network})


class Moment:
    """Counts calls; at the one it is told, or at a call of a function, sends a signal."""

    def __init__(self, number=None, function=None, sent=signal.SIGKILL):
        self.number, self.function, self.sent, self.calls = number, function, sent, 0

    def __call__(self, frame, event, _):
        if event not in ("call", "c_call"):
            return
        self.calls += 1
        named = event == "call" and frame.f_code.co_name == self.function
        if self.calls == self.number or named:
            sys.setprofile(None)
            os.kill(os.getpid(), self.sent)


def run_child(run, moment, log):
    """Run in a fork; return how it ended (negative: by a signal) and how many calls it made."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        status = 1
        try:
            sys.setprofile(moment)
            run()
            status = 0
        except SystemExit as stopped:
            status = stopped.code
        finally:
            sys.setprofile(None)
            os.write(writing, str(moment.calls).encode())
            os._exit(status)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return os.waitstatus_to_exitcode(status), int(pipe.read() or 0)


def drive(folder):
    """Kill runs at random moments, and let the last one end; called in a process of its own."""
    sys.path.insert(0, str(ROOT))
    import torch  # noqa: PLC0415  before the forks, with what it imports at the first step

    from scbert.logs import end_when_told, start_logging  # noqa: PLC0415
    from scbert.steps import pretrain as _  # noqa: F401, PLC0415
    from tests.conftest import change, run_pretrain, small_config  # noqa: PLC0415

    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    start_logging()
    end_when_told()  # as the script of the rule
    folder = Path(folder)
    paths = json.loads((folder / "paths.json").read_text())
    paths = SimpleNamespace(**{name: Path(path) for name, path in paths.items()})
    config = resumable(small_config(), change)

    def run(name, moment):
        result, state = folder / name, folder / f"{name}_state"
        return run_child(
            lambda: run_pretrain(paths, config, result, state), moment, folder / f"{name}.log"
        )

    ended, calls = run("whole", Moment())
    assert ended == 0
    moments = [Moment(function=name) for name in ("_moments", "_delete_older", "_score_batch")]
    moments.insert(1, Moment(function="add_gradients", sent=signal.SIGTERM))
    moments.insert(
        0, Moment(function="choose_validation_cells", sent=signal.SIGTERM)
    )  # while it loads
    codes = [run("parts", moment)[0] for moment in moments]
    rng = np.random.default_rng(0)
    while codes.count(-signal.SIGKILL) < N_KILLS + 3:
        codes.append(run("parts", Moment(number=int(calls * rng.uniform(0.1, 0.5))))[0])
        if codes[-1] == 0:  # it ended before its moment: begin anew
            require_equal(folder / "whole", folder / "parts")
            shutil.rmtree(folder / "parts")
    codes.append(run("parts", Moment(function="skill", sent=signal.SIGTERM))[0])  # after the loop
    (folder / "codes.json").write_text(json.dumps(codes))
    assert run("parts", Moment())[0] == 0


def require_equal(whole, parts):
    for name in ("weights.safetensors", "validation.json"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert untimed(whole) == untimed(parts)


def untimed(bundle):
    records = [json.loads(line) for line in (bundle / "history.jsonl").read_text().splitlines()]
    return [{key: v for key, v in record.items() if key not in TIMING} for record in records]


@pytest.mark.slow
def test_a_run_killed_at_ten_moments_and_while_writing_ends_with_the_same_bits(toy_run, tmp_path):
    paths = {name: str(path) for name, path in vars(toy_run).items()}
    (tmp_path / "paths.json").write_text(json.dumps(paths))
    program = f"from tests.training.test_resume import drive; drive({str(tmp_path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    said = (tmp_path / "parts.log").read_text() if (tmp_path / "parts.log").exists() else ""
    assert done.returncode == 0, done.stderr + said
    codes = json.loads((tmp_path / "codes.json").read_text())
    killed = -signal.SIGKILL
    assert (codes[:5], codes[-1]) == ([143, killed, 143, killed, killed], 143)
    assert codes.count(-signal.SIGKILL) == N_KILLS + 3
    assert {*codes} <= {0, 143, -signal.SIGKILL}
    assert "told to stop: step" in said
    assert said.count("told to stop: no file is left half-written") == 2
    assert "took over the stale lock of process" in said
    assert said.count("continuing after step") >= N_KILLS // 2  # some die before their first step
    require_equal(tmp_path / "whole", tmp_path / "parts")
    assert not (tmp_path / "parts_state").exists()
