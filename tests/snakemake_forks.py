"""Snakemake in forks of a process that has imported it: half of a dry run is its imports.

`Run.snakemake` of workflow_run.py starts it. A job is a line of JSON: the words of the command, its
environment and folder, and the file for what it says. The answer is a line with its exit code.
"""

import json
import os
import sys
import traceback
from contextlib import suppress

import pandas as pd  # noqa: F401  the rules import it
import snakemake.cli
import snakemake.executors.local
import yaml  # noqa: F401

with suppress(ImportError):
    import kubernetes  # noqa: F401  a second in each start, of the plugin for it


def run(words, environment, folder, said):
    """Do what `snakemake` does with these words, in a process of its own; return its exit code."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    code = 1
    try:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, file), (2, file)):
            os.dup2(source, stream)
        sys.argv = ["snakemake", *words]
        snakemake.cli.main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001  the fork must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


answers = os.fdopen(os.dup(1), "w")  # the forks say elsewhere what they say
for line in sys.stdin:
    print(run(**json.loads(line)), file=answers, flush=True)
