"""Without a shared disk, as on Kubernetes: files go through a storage, a killed pod leaves nothing.

The storage is another folder, through snakemake-storage-plugin-fs.
"""

import os
import shutil
import signal
import time

import pytest

from tests.slurm.two_nodes import settings, toy
from tests.workflow_run import Run

pytest.importorskip("snakemake_storage_plugin_fs", reason="pip install '.[dev]'")
pytestmark = [pytest.mark.workflow, pytest.mark.slow]
RESULT = "results/pretrained/weights.safetensors"
SMALL = {  # a tenth of a second for a step and its checkpoint
    "gene2vec": {"dim": 128},
    "network": {"dim": 128, "depth": 2, "heads": 4, "dim_head": 32, "n_features": 64},
}
RSYNC = """#!/bin/sh
# What the plugin asks of rsync: rsync --recursive --times --copy-links FROM TO
for last; do from=$to to=$last; done
mkdir -p "$(dirname "$to")"
if [ -d "$from" ]; then mkdir -p "$to" && exec cp -RLp "$from/." "$to"; fi
exec cp -Lp "$from" "$to"
"""


class Pods:
    """Runs of pretraining, each in a folder that is as new as a pod's; what lasts is beside it.

    `disk` is the storage, `volume` holds the state of training, as profiles/kubernetes mounts it.
    """

    def __init__(self, folder, repository):
        self.folder, self.repository = folder, repository
        self.disk, self.volume = folder / "disk", folder / "volume"

    def start(self):
        """Start snakemake where nothing is left of an earlier start."""
        shutil.rmtree(self.folder / "pod", ignore_errors=True)
        (self.folder / "pod").mkdir()
        self.run = Run(self.folder / "pod", self.repository)
        changed = settings(accumulation=1, epochs=3) | SMALL | {"checkpoints": str(self.volume)}
        return self.run.start(
            *("results/pretrained", "--allowed-rules", "pretrain", "--workflow-profile", "none"),
            *("--default-storage-provider", "fs", "--default-storage-prefix", self.disk),
            *("--shared-fs-usage", "none"),
            config=None,
            changed=changed,
            start_new_session=True,
        )

    def kill_after(self, step):
        """SIGKILL all of it once that step is kept; return the last one that was."""
        process, until = self.start(), time.monotonic() + 300
        try:
            while self.last_step() < step:
                assert process.poll() is None, process.stdout.read()
                assert time.monotonic() < until, f"no step {step} after 300 s"
                time.sleep(0.02)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        return self.last_step()

    def last_step(self):
        kept = (self.volume / "pretrain").glob("step*/manifest.json")
        return max((int(path.parent.name[4:13]) for path in kept), default=0)


def put(paths, folder):
    """Put what pretraining reads under the names of the workflow."""
    for name, source in (("tokens/embedded", paths.corpus), ("gene2vec", paths.gene2vec)):
        shutil.copytree(source, folder / "results" / name)
    shutil.copy(paths.vocabulary, folder / "results/vocabulary.tsv")


def test_pretraining_goes_on_in_the_next_pod_and_ends_with_the_same_bits(
    tmp_path, repository_copy, monkeypatch
):
    """A pod is killed after step 4 of 15 or later; the next one ends with a local run's weights."""
    if not shutil.which("rsync"):
        (tmp_path / "rsync").write_text(RSYNC)
        (tmp_path / "rsync").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    paths = toy(tmp_path / "toy", dim=128)
    pods = Pods(tmp_path, repository_copy)
    put(paths, pods.disk)
    step = pods.kill_after(4)
    assert step < 15
    assert not (pods.disk / "results/pretrained").exists()
    process = pods.start()
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert f"continuing after step {step}" in (pods.disk / "logs/pretrain.log").read_text()
    assert not (pods.run.here / "results").exists()  # all of it went through the storage
    (tmp_path / "local").mkdir()
    local = Run(tmp_path / "local", repository_copy)
    put(paths, local.here)
    done = local.snakemake(
        *("results/pretrained", "--allowed-rules", "pretrain", "--workflow-profile", "none"),
        config=None,
        changed=settings(accumulation=1, epochs=3) | SMALL,
    )
    assert done.returncode == 0, done.said
    assert (pods.disk / RESULT).read_bytes() == (local.here / RESULT).read_bytes()
