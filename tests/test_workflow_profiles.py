"""Profiles for other schedulers: what they plan, and what they give to qsub."""

import json
import os
from importlib.util import find_spec

import pytest
import yaml

from tests.workflow_run import REPOSITORY

pytestmark = pytest.mark.workflow
PROFILES = ("slurm", "lsf", "pbs", "sge", "kubernetes")
SHARED = ("groups", "group-components", "retries", "rerun-incomplete", "latency-wait", "resources")


def profile_of(name):
    return yaml.safe_load((REPOSITORY / f"profiles/{name}/config.yaml").read_text())


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_differ_only_in_what_the_scheduler_needs(name):
    """They cannot include one another."""
    found, slurm = profile_of(name), profile_of("slurm")
    assert {key: found[key] for key in SHARED} == {key: slurm[key] for key in SHARED}
    assert found["set-resources"].keys() == slurm["set-resources"].keys()
    assert all(wanted["gpu"] == 1 for wanted in found["set-resources"].values())


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_plans_the_default_run(fresh, name):
    executor = profile_of(name)["executor"]
    if find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}") is None:
        pytest.skip(f"pip install snakemake-executor-plugin-{executor}")
    more = ()
    if name == "kubernetes":  # the storage that is here
        pytest.importorskip("snakemake_storage_plugin_fs")
        more = ("--default-storage-provider", "fs", "--default-storage-prefix", fresh.here / "disk")
    profile = ("--workflow-profile", fresh.repository / "profiles" / name)
    done = fresh.snakemake("--dry-run", *profile, *more, config="config/config.yaml")
    assert done.returncode == 0, done.said
    assert "group job read" in done.said or "finetune_training_cells        3" in done.said


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pbs", ["-N", "pretrain", "walltime=1440:00", "select=1:ncpus=4:mem=10000mb:ngpus=1"]),
        ("sge", ["-N", "pretrain", "smp", "4", "h_rt=0:1440:0,h_vmem=10000M,gpu=1"]),
    ],
)
def test_what_is_given_to_qsub(fresh, monkeypatch, name, expected):
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    here = fresh.here / "standin"
    here.mkdir()
    (here / "qsub").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {here}/words\nexit 1\n')
    (here / "qsub").chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}{os.pathsep}{os.environ['PATH']}")
    for folder in ("results/tokens/embedded", "results/gene2vec"):
        (fresh.here / folder).mkdir(parents=True)
    (fresh.here / "results/vocabulary.tsv").touch()
    more = ("--workflow-profile", fresh.repository / "profiles" / name, "--retries", "0")
    more += ("--cores", "64", "--allowed-rules", "pretrain")
    done = fresh.snakemake("results/pretrained", *more, config="config/config.yaml")
    assert (here / "words").exists(), done.said
    words = (here / "words").read_text().split()
    assert [word for word in words if word in expected] == expected, json.dumps(words)
