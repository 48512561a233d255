"""Timers of Snakemake's scheduler: one with rules/scheduler.smk, ever more without."""

import os
import re
import subprocess
import sys

import pytest

from tests.workflow_run import REPOSITORY

pytestmark = pytest.mark.workflow
N_JOBS = 8
SNAKEFILE = f"""
import threading

AS_MODULE = False
{{include}}

rule all:
    input: [f"{{{{number}}}}.txt" for number in range({N_JOBS})]

rule one:
    output: "{{{{number}}}}.txt"
    shell: "touch {{{{output}}}}"

onsuccess:
    print("timers:", sum(isinstance(one, threading.Timer) for one in threading.enumerate()))
"""


@pytest.mark.parametrize(("included", "fewest", "most"), [(True, 0, 1), (False, 3, N_JOBS * 2)])
def test_timers_while_a_workflow_runs(tmp_path, included, fewest, most):
    """If the second case fails, Snakemake is mended and rules/scheduler.smk can go."""
    include = f'include: "{REPOSITORY / "rules/scheduler.smk"}"' if included else ""
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(include=include))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--scheduler", "greedy"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    timers = int(re.search(r"timers: (\d+)", done.stdout + done.stderr)[1])
    assert fewest <= timers <= most
