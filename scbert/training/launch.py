"""Start a training script: in this process, on the GPUs of a node, or on the nodes of a Slurm job.

python -m scbert.training.launch --device auto --nodes 1 SCRIPT ARGUMENTS

There are as many processes as visible GPUs, or one on a CPU; torchrun's agent starts those of a
node and passes signals and exit codes on. Of several nodes this module is started first on one, and
by srun then on each. The script gets the device by --device, after its other arguments.
"""

import argparse
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, get_args

import torch
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from scbert.config import DeviceName
from scbert.logs import explain_user_errors, start_logging

MODULE = "scbert.training.launch"
FIRST_PORT, PORTS = 15_000, 10_000  # below those that systems give away by themselves
PATIENCE = 300  # seconds to reach the first node: importing PyTorch over a network takes long
IDENTITY = ("SLURM_JOB_ID", "SLURM_CONF", "SLURM_CLUSTER_NAME")  # what srun must know
# All memory and CPUs of the job, which the step that this runs in holds already; if an agent fails,
# the others end too.
SRUN = "srun --overlap --mem=0 --ntasks-per-node=1 --kill-on-bad-exit=1"


SRUN += " --cpu-bind=none --mpi=none --input=none"


@dataclass(frozen=True)
class Launch:
    """What to start: `command` is a script with its arguments.

    `rendezvous` is host:port of the first node, where the agents meet; empty: they are not there.
    """

    command: list[str]
    device: DeviceName
    nodes: int
    rendezvous: str

    @property
    def script(self) -> list[str]:
        """The script and all its arguments."""
        return [*self.command, "--device", self.device]


def main(words: Sequence[str] | None = None) -> None:
    """Start what the command line says, and end with its exit code."""
    start_logging()
    explain_user_errors()
    launch = _launch(words)
    if launch.nodes > 1 and not launch.rendezvous:
        _on_each_node(launch)
    processes = processes_here(launch.device)
    if launch.nodes == 1 and processes == 1:
        sys.argv = launch.script
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        sys.exit(_run_agent(launch, processes))


def processes_here(device: DeviceName) -> int:
    """Return how many processes this node gets.

    One for each GPU that the job was given, by Slurm or by CUDA_VISIBLE_DEVICES: those are all that
    it sees. Where nothing hides the GPUs of the machine, one for each that the rule asks for
    (SCBERT_GPUS).

    Raises
    ------
    ValueError
        If more GPUs are asked for than there are.
    """
    visible = torch.cuda.device_count()
    if device not in ("auto", "cuda") or not visible:
        return 1  # a GPU that was asked for and is not there is refused where the device is chosen
    if "SLURM_JOB_ID" in os.environ or "CUDA_VISIBLE_DEVICES" in os.environ:
        return visible
    asked = int(os.environ.get("SCBERT_GPUS") or 1)
    if asked > visible:
        raise ValueError(
            f"{asked} GPUs were asked for, but {visible} can be seen here, and each gets a process "
            f"of its own. Ask for {visible} (set-resources: gpu), or look at CUDA_VISIBLE_DEVICES."
        )
    return max(asked, 1)


def _launch(words: Sequence[str] | None) -> Launch:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}")
    parser.add_argument("--device", choices=get_args(DeviceName), required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--rendezvous", default="", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="SCRIPT ARGUMENTS")
    found = parser.parse_args(words)
    if not found.command or found.nodes < 1:
        parser.error("a script and one node or more are needed")
    return Launch(found.command, found.device, found.nodes, found.rendezvous)


def _run_agent(launch: Launch, processes: int) -> int:
    """Be torchrun's agent of this node; return the exit code as a shell would."""
    if "OMP_NUM_THREADS" not in os.environ:  # torchrun would make it 1
        cpus = int(os.environ.get("SLURM_CPUS_PER_TASK") or os.cpu_count() or 1)
        os.environ["OMP_NUM_THREADS"] = str(max(cpus // processes, 1))
    where = _meeting_place(launch) if launch.nodes > 1 else ["--standalone"]
    try:
        torchrun.main([*where, f"--nproc-per-node={processes}", *launch.script])
    except SignalException as told:
        return 128 + told.sigval
    except ChildFailedError as failed:
        _, first = failed.get_first_failure()
        return first.exitcode if first.exitcode >= 0 else 128 - first.exitcode
    return 0


def _meeting_place(launch: Launch) -> list[str]:
    """Return torchrun's options by which the agents of a job find each other."""
    own = os.environ["SLURMD_NODENAME"]
    first = int(own == launch.rendezvous.partition(":")[0])
    return [
        f"--nnodes={launch.nodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={launch.rendezvous}",
        f"--rdzv-id={os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}",
        f"--rdzv-conf=is_host={first},read_timeout={PATIENCE}",
        f"--local-addr={own}",
    ]


def _on_each_node(launch: Launch) -> NoReturn:
    """Become the srun that starts an agent on each node of this job."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if not job:
        raise ValueError(
            f"{launch.nodes} nodes were asked for, but this is not a Slurm job (SLURM_JOB_ID is "
            "not set), and only Slurm can start processes on other nodes. Use one node, or "
            "profiles/slurm."
        )
    nodes = _nodes_of(job)
    if len(nodes) != launch.nodes:
        raise ValueError(
            f"{launch.nodes} nodes were asked for, but job {job} has {len(nodes)}: "
            f"{', '.join(nodes)}. Slurm takes nodes back that have no task: beside nodes: "
            f"{launch.nodes} the profile needs tasks: {launch.nodes}, or, with GPUs, gres: gpu:M "
            "(M of each node) and no tasks."
        )
    # What the step around this one was started with would be options of the new one.
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in IDENTITY or not name.startswith(("SLURM_", "SRUN_"))
    }
    cpus = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    many = [f"--nodes={launch.nodes}", f"--ntasks={launch.nodes}"]
    many += [f"--cpus-per-task={cpus}"] if cpus else []
    port = FIRST_PORT + int(job) % PORTS  # the same for all who know the job, and not another job's
    inner = [sys.executable, "-m", MODULE, "--device", launch.device, f"--nodes={launch.nodes}"]
    inner += ["--rendezvous", f"{nodes[0]}:{port}", *launch.command]
    os.execvpe("srun", [*SRUN.split(), *many, *inner], kept)


def _nodes_of(job: str) -> list[str]:
    """Return the names of all nodes of a job; the environment knows those of this step only."""
    names = _said("squeue", "--noheader", "--jobs", job, "--format=%N")
    return _said("scontrol", "show", "hostnames", names).split()


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(
            f"`{' '.join(command)}` failed ({done.stderr.strip()}), but the names of the job's "
            "nodes are needed to start training on each. Slurm's commands must work on the nodes."
        )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
