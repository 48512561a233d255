"""roc-validator, which checks crates, in an environment of its own.

Its versions of other packages are not ours (constraints.txt): they cannot be in one environment.
"""

import json
import subprocess
import venv
from importlib.resources import files
from pathlib import Path

import pytest

VALIDATOR = "roc-validator==0.13.0"
PROFILES = ("process-run-crate-0.5", "workflow-run-crate-0.5", "workflow-ro-crate-1.0")
BIOSCHEMAS = ("ComputationalWorkflow", "FormalParameter")


def install(folder):
    """Return the Python of a new environment with the validator; skip where it cannot be had."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    words = [python, "-m", "pip", "install", "--quiet", VALIDATOR]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{VALIDATOR} cannot be installed here: {done.stderr.strip()[-200:]}")
    return python


def write_context(path):
    """Write the context of RO-Crate 1.1, as far as our crates use it, from rocrate's of 1.3.

    Of the words that they use, 1.1 has others for bioschemas' and none for sha256.
    """
    context = json.loads(files("rocrate").joinpath("data/ro-crate.jsonld").read_text())
    for word in BIOSCHEMAS:
        context["@context"][word] = f"https://bioschemas.org/{word}"
    del context["@context"]["sha256"]
    path.write_text(json.dumps(context))


def failures(python, crate, folder):
    """Return which REQUIRED checks of the profiles a crate fails."""
    context = folder / "context.json"
    write_context(context)
    program = Path(__file__).with_name("validate_crate.py")
    words = [python, program, crate, context, *PROFILES]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
