"""Submissions by the Slurm profile: the words of sbatch, written down by a stand-in for Slurm."""

import json
import os
import re
import shlex

import pytest

from tests.workflow_run import REPOSITORY

pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install '.[slurm]'")
pytestmark = pytest.mark.workflow
COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "sinfo", "sacctmgr", "scancel")
QUICK = ("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1")


@pytest.fixture
def slurm(fresh, monkeypatch):
    """Stand-ins for Slurm's commands, first in PATH; `made`: the files that each job makes."""
    folder = fresh.here / "standin"
    folder.mkdir()
    for name in COMMANDS:
        (folder / name).symlink_to(REPOSITORY / "tests/slurm/standin.py")
    monkeypatch.setenv("STANDIN", str(folder))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def submit(*targets, more=(), made=None, **options):
        (folder / "outputs.json").write_text(json.dumps(made or {}))
        options = {"config": "config/config.yaml"} | options
        profile = ("--workflow-profile", fresh.repository / "profiles/slurm", "--latency-wait", "1")
        given = (*profile, *QUICK, "--cores", "64", "--retries", "0", *more)
        done = fresh.snakemake(*targets, *given, **options)
        assert (folder / "sbatch.jsonl").exists(), done.said
        lines = (folder / "sbatch.jsonl").read_text().splitlines()
        return done, [json.loads(line) for line in lines]

    return submit


def outputs_of(said):
    """The files that each job of a dry run makes, also that of its benchmark."""
    made = {}
    for rule, block in re.findall(r"^(?:rule|checkpoint) (\w+):\n((?:    .*\n)+)", said, re.M):
        found = dict(re.findall(r"^    (\w+): (.*)$", block, re.M))
        wildcards = found.get("wildcards", "").replace(", ", ",")
        made[f"{rule}:{wildcards}"] = [
            *found.get("output", "").split(", "),
            *filter(None, [found.get("benchmark")]),
        ]
    return made


def write_samples(run, n):
    """A corpus of empty files, and datasets of which none joins it."""
    (run.here / "cells").mkdir()
    rows = ["sample\tfile\tmatrix\tscale\tsha256"]
    for number in range(n):
        (run.here / f"cells/s{number}.h5ad").touch()
        rows.append(f"s{number}\tcells/s{number}.h5ad\tX\tcounts\t")
    (run.here / "corpus.tsv").write_text("\n".join(rows) + "\n")
    datasets = (REPOSITORY / "config/datasets.tsv").read_text().replace("\tyes\t", "\tno\t")
    (run.here / "datasets.tsv").write_text(datasets)
    return {"corpus": {"samples": "corpus.tsv"}, "datasets": "datasets.tsv"}


def test_steps_of_ten_samples_are_one_submission(fresh, slurm):
    """PanglaoDB's 295 are 30 + 30, and about 25 for all else: below 100; one each would be 900."""
    changed = write_samples(fresh, 25)
    targets = [f"results/pairs/s{number}.npy" for number in range(25)]
    dry = fresh.snakemake(*targets, "--dry-run", config="config/config.yaml", changed=changed)
    done, submitted = slurm(*targets, made=outputs_of(dry.said), changed=changed)
    assert done.returncode == 0, done.said
    assert len(submitted) == 3 + 1 + 3  # read, the vocabulary, tokens
    assert "Guessed SLURM account" not in done.said
    together = [words for words in submitted if "--cpus-per-task=10" in words]
    assert len(together) == 4
    assert all("40000" in words and "--requeue" in words for words in together)


@pytest.mark.parametrize(
    ("given", "expected", "unexpected"),
    [
        ((), {"--gpus=1", "--cpus-per-task=4", "--nodes=1"}, "--gres"),  # as the profile is
        (("gpu=2",), {"--gpus=2", "--cpus-per-task=8", "--nodes=1"}, "--gres"),
        (
            ("gpu=2", "gpu_model=h100", "slurm_partition=gpu"),
            {"--gpus=h100:2", "--cpus-per-task=8", "--nodes=1", "--requeue", "gpu"},
            "--gres",
        ),
        (("gpu=0", "gres=gpu:h100:2"), {"--gres=gpu:h100:2", "--cpus-per-task=8"}, "--gpus"),
        (
            ("gpu=0", "gres=gpu:4", "nodes=2"),
            {"--gres=gpu:4", "--nodes=2", "--cpus-per-task=16"},
            "--ntasks",
        ),
        (("gpu=0", "nodes=2", "tasks=2"), {"--nodes=2", "--ntasks=2"}, "--g"),
    ],
)
def test_the_words_of_sbatch_ask_for_the_gpus_of_the_profile(
    fresh, slurm, given, expected, unexpected
):
    for folder in ("results/tokens/embedded", "results/gene2vec"):
        (fresh.here / folder).mkdir(parents=True)
    (fresh.here / "results/vocabulary.tsv").touch()
    resources = [f"pretrain:{resource}" for resource in given]
    more = ("--allowed-rules", "pretrain", *(["--set-resources", *resources] if given else []))
    _, submitted = slurm("results/pretrained", more=more)
    (words,) = submitted
    assert expected <= {*words}, shlex.join(words[:-1])
    assert not any(word.startswith(unexpected) for word in words)
    assert words[words.index("-t") + 1] == "1440"
