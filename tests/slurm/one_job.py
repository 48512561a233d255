"""Jobs of one node on the cluster of cluster.sh: groups, partitions, time limit, preemption.

Pretraining runs out of time, is submitted again with more, and is preempted; it must end with the
very bits of a local run. Samples that are read in groups, by a Snakemake that is a job itself, must
be those that are read here one by one.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from tests.conftest import draw_cells
from tests.slurm.two_nodes import (
    LIMIT,
    ROOT,
    Run,
    difference,
    finish,
    processes_of,
    report,
    require_continued,
    running_job,
    said,
    start_now,
    text_of,
    toy,
    wait_for,
    wait_until,
)

N_SAMPLES = 4
LONG = "long"  # the partition that takes more than an hour


def write_partitions(folder):
    """Let the plugin's own program ask Slurm which partitions there are."""
    file = folder / "partitions.yaml"
    program = Path(sys.executable).with_name("generate-slurm-partition-config")
    subprocess.run([program, "-o", file], check=True, capture_output=True)
    found = yaml.safe_load(file.read_text())["partitions"]
    found.pop("urgent")  # not for us: what a person must know
    file.write_text(yaml.safe_dump({"partitions": found}))
    return file


def submit(run, partitions, *more, runtime):
    """Start snakemake with the profile; `runtime` is an expression of the attempt."""
    resources = ("gpu=0", "mem_mb=2000", f"runtime={runtime}")
    return run.start(
        *("--workflow-profile", ROOT / "profiles/slurm", "--latency-wait", "10"),
        *("--slurm-partition-config", partitions, "--slurm-keep-successful-logs"),
        *("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"),
        *("--set-threads", "pretrain=1", *more),
        *("--set-resources", *(f"pretrain:{resource}" for resource in resources)),
    )


def require_partition(name):
    found = said("squeue", "-h", "-t", "running", "-o", "%P").strip()
    if found != name:
        sys.exit(f"FAILED: the job is in partition {found}, not {name}")
    report(f"the job is in partition {name}")


def run_out_of_time():
    """Stop the trainer, as a slow disk would, until Slurm ends the job for its time limit."""
    job = running_job()
    for pid, words in (*processes_of(1), *processes_of(2)):
        if "scbert.training.launch" in words:
            os.kill(pid, signal.SIGSTOP)
    wait_until("TIMEOUT", "squeue", "-h", "-t", "all", "-j", job, "-o", "%T", seconds=200)


def preempt():
    """Submit a job of a partition with a higher priority, which needs all nodes."""
    job = running_job()
    said("sbatch", "-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3")
    start_now(job)


def pretrain(folder, paths, partitions):
    local = Run(folder / "local", paths, accumulation=1, epochs=3)
    finish(local, local.start("--cores", "1"))
    report("pretraining on this machine")
    run = Run(folder / "cluster", paths, accumulation=1, epochs=3)
    process = submit(run, partitions, runtime="1 if attempt == 1 else 120")
    step = wait_for(run, process, 3)
    require_partition("cpu")
    for interrupt in (run_out_of_time, preempt):
        step = wait_for(run, process, step)
        report(f"after step {step}: {interrupt.__name__}")
        log = run.folder / "logs/pretrain.log"
        log.rename(log.with_suffix(f".{step}"))
        interrupt()
        require_continued(run, process, step)
        require_partition(LONG)
    finish(run, process)
    apart = difference(local.weights(), run.weights())
    report(f"the weights differ by {apart} at most from those of the local run")
    if apart:
        sys.exit("FAILED: they must not differ")


def read_in_groups(folder, partitions):
    """Read four samples here, one by one, and on the cluster, two in each job."""
    rows = ["sample\tfile\tmatrix\tscale\tsha256"]
    folder.mkdir()
    for number in range(N_SAMPLES):
        draw_cells(20, seed=number).write_h5ad(folder / f"s{number}.h5ad")
        rows.append(f"s{number}\t{folder}/s{number}.h5ad\tX\tcounts\t")
    (folder / "corpus.tsv").write_text("\n".join(rows) + "\n")
    local, _ = read(folder, "local", "--workflow-profile", "none", "--cores", "2")
    cluster, said = read(
        *(folder, "cluster", "--workflow-profile", ROOT / "profiles/slurm"),
        *("--slurm-partition-config", partitions, "--group-components", "read=2"),
        *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10"),
        *("--set-resources", "read_counts:mem_mb=1000", "read_counts:runtime=10"),
        as_job=True,
    )
    jobs = re.findall(r"submitted with SLURM jobid", said)
    report(f"{N_SAMPLES} samples were read by {len(jobs)} jobs, which a job has submitted")
    if len(jobs) != N_SAMPLES // 2 or "running snakemake in a SLURM job" not in said:
        sys.exit(f"FAILED: {N_SAMPLES // 2} jobs of a job were expected\n{said[-4000:]}")
    for name in targets():
        if (local / name).read_bytes() != (cluster / name).read_bytes():
            sys.exit(f"FAILED: {name} differs")
    report("their counts are those of the local run, byte for byte")


def targets():
    return [f"results/counts/s{number}.h5ad" for number in range(N_SAMPLES)]


def read(folder, name, *more, as_job=False):
    """Read the samples, by a Snakemake beside us or in a job; return the folder and its words."""
    here = folder / name
    here.mkdir()
    settings = {"corpus": {"samples": f"{folder}/corpus.tsv"}, "counts": {"min_genes": 5}}
    (here / "toy.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", *targets()]
    command += ["--configfile", here / "toy.yaml", "--directory", here, *more]
    if as_job:  # where nothing may run for long beside us
        job = ("sbatch", "--wait", "--time=30", "--mem=1G", "--cpus-per-task=1")
        command = [*job, "--output", here / "said", "--wrap", shlex.join(map(str, command))]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        list(map(str, command)),
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "SCBERT_COMMIT": "test"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    said = text_of(here / "said") if as_job else done.stdout + done.stderr
    if done.returncode:
        sys.exit(f"FAILED: reading, {name}\n{said[-6000:]}{done.stderr[-3000:]}")
    return here, said


def main(folder):
    partitions = write_partitions(folder)
    pretrain(folder, toy(folder / "toy1"), partitions)
    read_in_groups(folder / "read", partitions)
    print("PASSED: jobs of one node")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
