"""Two faults of Snakemake are mended: one timer for its scheduler, and one check of all groups."""

import os
import re
import subprocess
import sys

import pytest

from tests.workflow_run import REPOSITORY

pytestmark = pytest.mark.workflow
FIXES = f'include: "{REPOSITORY / "rules/snakemake_fixes.smk"}"'
N_JOBS = 8
SNAKEFILE = f"""
import threading
from snakemake.dag import DAG

AS_MODULE = False
MOST = [0]  # timers that waited at the same time

class Counted(threading.Timer):
    def start(self):
        super().start()
        alive = sum(isinstance(one, threading.Timer) for one in threading.enumerate())
        MOST[0] = max(MOST[0], alive)

threading.Timer = Counted
{{begin}}

rule all:
    input: [f"{{{{number}}}}.two" for number in range({N_JOBS})]

rule one:
    output: "{{{{number}}}}.one"
    shell: "touch {{{{output}}}}"

rule two:
    input: "{{{{number}}}}.one"
    output: "{{{{number}}}}.two"
    shell: "touch {{{{output}}}}"

onsuccess:
    print("timers:", MOST[0])
"""
WALKS = "DAG._check_groups = lambda dag: print('walked')\n"
# a and c are of one group, which b between them leaves
CIRCLE = """
AS_MODULE = False
{begin}
rule c:
    input: "b"
    output: "c"
    group: "ends"
    shell: "touch c"

rule b:
    input: "a"
    output: "b"
    shell: "touch b"

rule a:
    output: "a"
    group: "ends"
    shell: "touch a"
"""


def snakemake(folder, snakefile, *options):
    (folder / "Snakefile").write_text(snakefile)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *options]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("begin", "fewest", "most"), [(FIXES, 1, 2), ("", 4, 4 * N_JOBS)])
def test_timers_while_a_workflow_runs(tmp_path, begin, fewest, most):
    """One, and one that was just stopped. If the other case fails, Snakemake is mended."""
    code, said = snakemake(tmp_path, SNAKEFILE.format(begin=begin), "--scheduler", "greedy")
    assert code == 0, said
    assert fewest <= int(re.search(r"timers: (\d+)", said)[1]) <= most


def test_jobs_that_had_to_wait_for_their_timespan_are_started(tmp_path):
    """Four a second, when nothing runs whose end would wake the scheduler."""
    options = ("--cores", "8", "--max-jobs-per-timespan", "4/1s", "--scheduler", "greedy")
    code, said = snakemake(tmp_path, SNAKEFILE.format(begin=FIXES), *options)
    assert code == 0, said
    assert "Job rate limit reached" in said


@pytest.mark.parametrize(("fixes", "walked"), [(FIXES, False), ("", True)])
def test_groups_without_a_circle_are_not_walked_through(tmp_path, fixes, walked):
    """Eight pairs of jobs, of which the second depends on the first, in groups of four pairs."""
    options = ("-n", "--groups", "one=few", "two=few", "--group-components", "few=4")
    code, said = snakemake(tmp_path, SNAKEFILE.format(begin=WALKS + fixes), *options)
    assert code == 0, said
    assert ("walked" in said) is walked


def test_a_group_that_waits_for_itself_is_refused(tmp_path):
    """As by Snakemake alone."""
    options = ("-n", "--group-components", "ends=2", "--", "c")
    said = [snakemake(tmp_path, CIRCLE.format(begin=begin), *options) for begin in (FIXES, "")]
    assert [code for code, _ in said] == [1, 1]
    assert all("depends on itself" in one for _, one in said), said
