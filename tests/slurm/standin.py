#!/usr/bin/env python3
"""What Slurm's commands say to Snakemake, without a Slurm: jobs are written down and end at once.

Links to this file, named sbatch, squeue and so on, stand first in PATH. STANDIN is a folder:
sbatch.jsonl gets a line for each submission, its words; outputs.json says which files each job,
rule:wildcard=value, would have made, and they are made empty.
"""

import json
import os
import re
import sys
from pathlib import Path

HERE = Path(os.environ["STANDIN"])
SUBMITTED = HERE / "sbatch.jsonl"


def sbatch(words):
    with SUBMITTED.open("a") as log:
        log.write(json.dumps(words) + "\n")
    command = " ".join(words)
    made = json.loads((HERE / "outputs.json").read_text())
    targets = re.search(r"--target-jobs (.*?) --", command)
    for target in targets[1].split() if targets else []:
        for path in made.get(target.strip("'\""), []):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()
    print(len(SUBMITTED.read_text().splitlines()))


def squeue(_):
    if SUBMITTED.exists():
        for number, _ in enumerate(SUBMITTED.read_text().splitlines(), 1):
            print(f"{number}|COMPLETED")


def sacct(words):
    # Who asks for accounts must not be told of jobs: of two submissions at once the later one took
    # "1|COMPLETED" for its account and ended in a thread of its own, for which Snakemake waits.
    if not any(word.startswith("Account") for word in words):
        squeue(words)


def scontrol(_):
    print("MaxArraySize = 1001\nMinJobAge = 300 sec")


if __name__ == "__main__":
    said = {"sbatch": sbatch, "squeue": squeue, "sacct": sacct, "scontrol": scontrol}
    said.get(Path(sys.argv[0]).name, lambda _: None)(sys.argv[1:])
