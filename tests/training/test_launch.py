"""Processes started for a number of GPUs and of nodes; tests/slurm/two_nodes.sh starts them."""

import json
import signal
import sys

import pytest
import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from scbert.training import launch
from scbert.training.launch import main, processes_here

SCRIPT = """
import json, sys
from pathlib import Path
Path(sys.argv[1]).write_text(json.dumps([__name__, *sys.argv[2:]]))
sys.exit(int(sys.argv[2]))
"""


GIVEN = ("SCBERT_GPUS", "CUDA_VISIBLE_DEVICES")


@pytest.fixture
def quiet(monkeypatch):
    """This process keeps its hooks and its environment; there are no GPUs and no Slurm."""
    monkeypatch.setattr(launch, "start_logging", lambda: None)
    monkeypatch.setattr(launch, "explain_user_errors", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name in ("SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", *GIVEN):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def agent(quiet):
    """Words for torchrun are noted; what it shall raise can be set. The job has all GPUs."""
    quiet.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    noted = {"raises": None}

    def start(words):
        noted["words"] = words
        if noted["raises"] is not None:
            raise noted["raises"]

    quiet.setattr(launch.torchrun, "main", start)
    quiet.setattr(torch.cuda, "device_count", lambda: 2)
    return noted


@pytest.fixture
def slurm(quiet, tmp_path):
    """Programs that answer as Slurm's do, for a job of two nodes; srun is noted, not run."""
    noted = {}
    answers = {"squeue": 'echo "node[7-8]"', "scontrol": "printf 'node7\\nnode8\\n'"}
    for name, answer in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} $@ >> {tmp_path}/asked\n{answer}\n")
        (tmp_path / name).chmod(0o755)
    quiet.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    quiet.setenv("SLURM_JOB_ID", "31234")

    def become(program, words, environment):
        noted.update(program=program, words=words, environment=environment)
        raise SystemExit(0)

    quiet.setattr(launch.os, "execvpe", become)
    return noted


@pytest.mark.parametrize(("device", "expected"), [("auto", 2), ("cuda", 2), ("cpu", 1), ("mps", 1)])
def test_a_process_for_each_gpu_that_the_job_was_given(quiet, device, expected):
    assert processes_here(device) == 1
    quiet.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "2,3"}.items():
        with quiet.context() as given:
            given.setenv(name, value)
            assert processes_here(device) == expected


def test_where_nothing_hides_gpus_a_process_for_each_that_is_asked_for(quiet):
    """Snakemake on one machine shows a job all of them, also where it asked for none."""
    quiet.setattr(torch.cuda, "device_count", lambda: 4)
    assert processes_here("auto") == 1
    for asked, expected in {"0": 1, "1": 1, "3": 3}.items():
        quiet.setenv("SCBERT_GPUS", asked)
        assert processes_here("auto") == expected
    quiet.setenv("SCBERT_GPUS", "5")
    with pytest.raises(ValueError, match="5 GPUs were asked for, but 4"):
        processes_here("auto")


def test_alone_the_script_runs_in_this_process_and_its_exit_code_is_ours(quiet, tmp_path):
    script, out = tmp_path / "script.py", tmp_path / "out.json"
    script.write_text(SCRIPT)
    quiet.setattr(sys, "argv", [])
    with pytest.raises(SystemExit) as ended:
        main(["--device", "auto", "--nodes", "1", str(script), str(out), "3"])
    assert ended.value.code == 3
    assert json.loads(out.read_text()) == ["__main__", "3", "--device", "auto"]


def test_several_gpus_of_one_node_get_torchrun_and_share_its_cpus(agent, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    with pytest.raises(SystemExit) as ended:
        main(["--device", "cuda", "--nodes", "1", "s.py", "--tokens", "t"])
    assert not ended.value.code
    own = ["s.py", "--tokens", "t", "--device", "cuda"]
    assert agent["words"] == ["--standalone", "--nproc-per-node=2", *own]
    assert launch.os.environ["OMP_NUM_THREADS"] == "4"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (SignalException("told", signal.SIGTERM), 143),
        ("exit 143", 143),
        ("exit 1", 1),
        ("exit -9", 137),
    ],
)
def test_the_exit_code_is_that_of_the_process_that_failed_first(agent, tmp_path, raised, expected):
    if isinstance(raised, str):
        first = ProcessFailure(0, 1, int(raised.split()[1]), str(tmp_path / "none.json"))
        raised = ChildFailedError("script", {0: first})
    agent["raises"] = raised
    with pytest.raises(SystemExit) as ended:
        main(["--device", "auto", "--nodes", "1", "s.py"])
    assert ended.value.code == expected


def test_of_several_nodes_srun_starts_an_agent_on_each(slurm, monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("SLURM_NTASKS", "1")  # of the step in which this runs
    monkeypatch.setenv("SRUN_DEBUG", "3")
    with pytest.raises(SystemExit):
        main(["--device", "auto", "--nodes", "2", "s.py", "--tokens", "t"])
    words = slurm["words"]
    assert slurm["program"] == words[0] == "srun"
    step = ("--overlap", "--kill-on-bad-exit=1", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1")
    assert {*step, "--cpus-per-task=6", "--mem=0"} <= {*words}
    inner = [sys.executable, "-m", "scbert.training.launch", "--device", "auto", "--nodes=2"]
    inner += ["--rendezvous", "node7:16234", "s.py", "--tokens", "t"]
    assert words[-len(inner) :] == inner
    assert {"SLURM_JOB_ID", "SLURM_CONF", "PATH"} <= slurm["environment"].keys()
    assert not {"SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "SRUN_DEBUG"} & slurm["environment"].keys()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [
        "squeue --noheader --jobs 31234 --format=%N",
        "scontrol show hostnames node[7-8]",
    ]


def test_an_agent_meets_the_others_at_the_first_node(agent, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "31234")
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    for name, first in (("node7", 1), ("node8", 0)):
        monkeypatch.setenv("SLURMD_NODENAME", name)
        with pytest.raises(SystemExit):
            main(["--device", "auto", "--nodes", "2", "--rendezvous", "node7:16234", "s.py"])
        expected = {"--nnodes=2", "--rdzv-endpoint=node7:16234", "--rdzv-id=31234.1"}
        expected |= {f"--rdzv-conf=is_host={first},read_timeout=300", f"--local-addr={name}"}
        assert expected | {"--nproc-per-node=2"} <= {*agent["words"]}


def test_nodes_without_slurm_are_refused(quiet):
    with pytest.raises(ValueError, match="2 nodes were asked for, but this is not a Slurm job"):
        main(["--device", "cpu", "--nodes", "2", "s.py"])


def test_a_job_of_another_number_of_nodes_is_refused(slurm):
    with pytest.raises(ValueError, match=r"job 31234 has 2: node7, node8.*tasks: 3.*gres: gpu:M"):
        main(["--device", "cpu", "--nodes", "3", "s.py"])


def test_slurm_commands_that_fail_are_named(slurm, tmp_path):
    (tmp_path / "squeue").write_text("#!/bin/sh\necho no controller >&2\nexit 1\n")
    with pytest.raises(ValueError, match=r"`squeue .*` failed \(no controller\)"):
        main(["--device", "cpu", "--nodes", "2", "s.py"])


@pytest.mark.parametrize("words", [["--device", "cpu", "--nodes", "1"], ["--nodes", "0", "s.py"]])
def test_a_wrong_command_line_is_refused(quiet, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
