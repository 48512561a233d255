"""Pretraining on the two nodes of cluster.sh, through Snakemake and the Slurm profile.

The same run three times: by one process with twice the accumulation; on two nodes; on two nodes
with a trainer killed, the job cancelled and a node lost on the way. All must end with one result.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import yaml
from safetensors.torch import load_file

from tests.conftest import draw_cells, run_to_tokens, small_config, write_random_vectors

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5  # sums differ in their order
LIMIT = int(os.environ.get("LIMIT", "300"))  # seconds for anything; more where others compute
STARTED = time.monotonic()
CORPUS = "results/tokens/embedded"
STATE = "results/checkpoints/pretrain"
WEIGHTS = "results/pretrained/weights.safetensors"


def settings(accumulation, epochs):
    """A network that takes a quarter of a second for a step: 40 steps in 8 epochs, each kept."""
    optimizer = {"epochs": epochs, "tokens_per_batch": 256, "accumulation": accumulation}
    optimizer["log_steps"] = 1
    optimizer["checkpoints"] = {"steps": 1, "minutes": 0, "keep": 2}
    return {
        "counts": {"min_genes": 5},
        "normalization": {"target_sum": 317.0},
        "gene2vec": {"dim": 256},
        "network": {"dim": 256, "depth": 4, "heads": 4, "dim_head": 64, "n_features": 128},
        "pretrain": {"redraw_interval": 3, "optimizer": optimizer},
    }


class Run:
    """A working directory with the tokens of a toy corpus, in which only `pretrain` is run."""

    def __init__(self, folder, paths, accumulation, epochs=8):
        self.folder = folder
        for name, source in (
            (CORPUS, paths.corpus),
            ("results/vocabulary.tsv", paths.vocabulary),
            ("results/gene2vec", paths.gene2vec),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(source)
        (folder / "toy.yaml").write_text(yaml.safe_dump(settings(accumulation, epochs)))

    def start(self, *more):
        """Start snakemake."""
        command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile"]
        command += ["--configfile", self.folder / "toy.yaml", "--directory", self.folder]
        command += ["--allowed-rules", "pretrain", *more, "--", "results/pretrained"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.log = (self.folder / "snakemake.log").open("w")
        return subprocess.Popen(
            list(map(str, command)),
            cwd=self.folder,
            env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "SCBERT_COMMIT": "test"},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def on_two_nodes(self, *more, asked=("tasks=2", "slurm_partition=cpu")):
        """Start snakemake with the profile for Slurm, changed by what a toy cluster needs."""
        asked = (*asked, "nodes=2", "gpu=0", "mem_mb=2000", "runtime=20")
        quick = ("--slurm-init-seconds-before-status-checks", "2")
        quick += ("--seconds-between-status-checks", "2", "--latency-wait", "10")
        return self.start(
            *("--workflow-profile", ROOT / "profiles/slurm", "--slurm-requeue", *quick),
            *("--slurm-keep-successful-logs", "--set-threads", "pretrain=1", *more),
            *("--set-resources", *(f"pretrain:{resource}" for resource in asked)),
        )

    def weights(self):
        """The result."""
        return load_file(self.folder / WEIGHTS)

    def steps(self):
        """The optimizer steps that are kept so far."""
        kept = (self.folder / STATE).glob("step*/manifest.json")
        return max((int(path.parent.name[4:13]) for path in kept), default=0)

    def said(self):
        """What training and Slurm wrote, for the one who looks for a reason."""
        files = [*self.folder.glob("snakemake.log"), *self.folder.glob("logs/pretrain.*")]
        files += sorted(self.folder.glob(".snakemake/slurm_logs/**/*.log"))
        return "\n".join(f"==> {file}\n{file.read_text()[-6000:]}" for file in files)


def finish(run, process):
    try:
        code = process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        code = f"none after {LIMIT} s"
    if code:
        sys.exit(f"FAILED: snakemake ended with {code}\n{run.said()}")


def wait_for(run, process, step):
    """Wait until training has done more than a step."""
    until = time.monotonic() + LIMIT
    while run.steps() <= step:
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"FAILED: no step after {run.steps()}, {step + 1} was awaited\n{run.said()}")
        time.sleep(0.1)
    return run.steps()


def require_continued(run, process, step):
    """Wait until training goes on, and see that it does from a checkpoint that is not older."""
    log, until = run.folder / "logs/pretrain.log", time.monotonic() + LIMIT
    while not (found := re.search(r"continuing after step (\d+)", text_of(log))):
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"FAILED: training does not go on\n{run.said()}")
        time.sleep(0.5)
    if int(found[1]) < step:
        sys.exit(f"FAILED: step {step} was kept, and it goes on after {found[1]}\n{run.said()}")
    report(f"goes on after step {found[1]}")


def text_of(file):
    return file.read_text() if file.is_file() else ""


def report(what):
    print(f"{time.monotonic() - STARTED:4.0f} s  {what}", flush=True)


def difference(first, second):
    """Return the largest difference of two runs' weights."""
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def processes_of(node):
    """The processes that run in the namespaces of a node, but for the one that holds them."""
    holder = os.environ[f"NODE{node}"]
    here = Path(f"/proc/{holder}/ns/net").readlink()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            inside = (folder / "ns/net").readlink() == here
            words = (folder / "cmdline").read_text().split("\0")
        except OSError:  # it has ended
            continue
        if inside and folder.name != holder:
            found.append((int(folder.name), words))
    return found


def kill_trainer(node):
    """Kill the trainers of a node, and not the agent that watches over them."""
    trainers = [pid for pid, words in processes_of(node) if "-u" in words[1:2]]
    assert trainers, f"no trainer on node {node}: {processes_of(node)}"
    for pid in trainers:
        os.kill(pid, signal.SIGKILL)


def lose_node(node):
    """Kill all that runs on a node, its slurmd too, and start that again when Slurm has noticed."""
    job = running_job()
    for pid, _ in processes_of(node):
        os.kill(pid, signal.SIGKILL)
    wait_until("down", "sinfo", "-h", "-N", "-n", f"node{node}", "-o", "%T")
    holder = os.environ[f"NODE{node}"]
    said("nsenter", "--target", holder, "--net", "--uts", "slurmd", "-N", f"node{node}")
    start_now(job)


def requeue():
    """Take the running job back into the queue, as an operator or a better-paid job does."""
    job = running_job()
    said("scontrol", "requeue", job)
    start_now(job)


def running_job():
    (job,) = said("squeue", "-h", "-t", "running", "-o", "%i").split()
    return job


def start_now(job):
    """Let a job that is back in the queue begin, when nothing of it is left on the nodes.

    Slurm waits two minutes for that; at once, it takes the nodes for busy and starts no step.
    """
    wait_until("PENDING", "squeue", "-h", "-j", job, "-o", "%T")
    time.sleep(15)
    said("scontrol", "update", f"job={job}", "StartTime=now")


def wait_until(word, *command, seconds=60):
    for _ in range(5 * seconds):
        if word in said(*command):
            return
        time.sleep(0.2)
    sys.exit(f"FAILED: {' '.join(command)} does not say {word} but {said(*command)}")


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main(folder):
    paths = toy(folder / "toy")
    one = Run(folder / "one", paths, accumulation=2)
    finish(one, one.start("--cores", "2"))
    report(f"one process: step {last(one)['step']}")

    two = Run(folder / "two", paths, accumulation=1)
    finish(two, two.on_two_nodes())
    require_two_nodes(two)
    apart = difference(one.weights(), two.weights())
    report(f"two nodes: step {last(two)['step']}, weights differ by {apart:.1e} at most")

    refused = Run(folder / "refused", paths, accumulation=1)
    require_refusal(refused)

    stopped = Run(folder / "stopped", paths, accumulation=1)
    process, step = stopped.on_two_nodes(), 0
    interruptions = (partial(lose_node, 2), requeue, partial(kill_trainer, 1))
    for interrupt in interruptions:
        step = wait_for(stopped, process, step + 3)
        name = getattr(interrupt, "func", interrupt).__name__
        report(f"after step {step}: {name}")
        log = stopped.folder / "logs/pretrain.log"
        log.rename(log.with_suffix(f".{step}"))  # the next one is that of what goes on
        interrupt()
        require_continued(stopped, process, step)
    finish(stopped, process)
    require_two_nodes(stopped)
    again = difference(two.weights(), stopped.weights())
    report(f"the interrupted run differs by {again:.1e} at most from the other")
    if max(apart, again) > TOLERANCE:
        sys.exit(f"FAILED: the weights differ by {max(apart, again)}, {TOLERANCE} is allowed")
    print("PASSED")


def require_refusal(run):
    """See that a job with GPUs on each node, which are no GPUs here, says so on both and ends."""
    process = run.on_two_nodes("--retries", "0", asked=("gres=gpu:1", "slurm_partition=gpu"))
    code, text = process.wait(LIMIT), text_of(run.folder / "logs/pretrain.log")
    if not code or "the job was given a GPU" not in text or "--device cpu" not in text:
        sys.exit(f"FAILED: {code}, and no reason\n{run.said()}")
    report("two nodes with GPUs that cannot be used: refused, with the reason")


def toy(folder, dim=256):
    """The tokens and gene vectors, of width `dim`, of the toy data of the tests."""
    config = small_config()
    paths = run_to_tokens(folder, draw_cells(), config)
    write_random_vectors(paths.gene2vec, paths.vocabulary, dim=dim)
    return paths


def last(run):
    lines = (run.folder / "results/pretrained/history.jsonl").read_text().splitlines()
    return json.loads(lines[-1])


def require_two_nodes(run):
    if " x 2\n" not in (run.folder / "logs/pretrain.log").read_text():
        sys.exit(f"FAILED: there were no two processes\n{run.said()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
