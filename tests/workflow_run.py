"""A run of the real workflow on the embedded cells, from a copy of the repository to edit."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import yaml
from scipy import sparse

REPOSITORY = Path(__file__).resolve().parent.parent
PARTS = (
    "Snakefile",
    "workflow",
    "rules",
    "scripts",
    "envs",
    "config",
    "profiles",
    "report",
    "scbert",
    "tests",
)
TINY = "tests/workflow/tiny.yaml"
TWO_DATASETS = "tests/workflow/two_datasets.yaml"
COMMIT = "0123456789abcdef"
DATASETS = ("pbmc68k_reduced", "second")


@functools.cache
def forks():
    """The process that Snakemake is forked from; it ends when its input does, with this one."""
    program = [sys.executable, "-EP", REPOSITORY / "tests/snakemake_forks.py"]  # no path of tests
    pipe = subprocess.PIPE
    return subprocess.Popen(program, stdin=pipe, stdout=pipe, text=True)


def snakemake(words, environment, folder, said):
    """Do what `snakemake` does with these words in a folder; return its exit code and its words."""
    job = {"words": words, "environment": environment, "folder": folder, "said": said}
    print(json.dumps(job, default=str), file=forks().stdin, flush=True)
    code = int(forks().stdout.readline())
    return SimpleNamespace(returncode=code, said=said.read_text())


def copy_repository(folder):
    """Copy what the workflow consists of; return the folder."""
    folder.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy
        copy(REPOSITORY / part, folder / part)
    return folder


class Run:
    """A copy of the repository, one of its own if none is given, and a working directory."""

    def __init__(self, folder, repository=None):
        self.repository = repository or copy_repository(folder / "repository")
        self.here = folder / "here"
        self.here.mkdir()

    def command(self, *arguments, config=TINY, changed=None):
        """The words after snakemake: a configuration file and, on top, changed values."""
        files = [self.repository / config] if config else []
        files += [self.repository / TWO_DATASETS] if config == TINY else []
        if changed is not None:
            files.append(self.here / "changed.yaml")
            files[-1].write_text(yaml.safe_dump(changed))
        words = ["--cores", "2", "-s", self.repository / "Snakefile", "--directory", self.here]
        files = ["--configfile", *files] if files else []
        return [str(word) for word in [*words, *arguments, *files]]

    def environment(self):
        bin_folder = Path(sys.executable).parent  # the rules call plain python
        path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "SCBERT_COMMIT": COMMIT}

    def start(self, *arguments, config=TINY, changed=None, **how):
        """Start snakemake as a program, which may be killed."""
        words = self.command(*arguments, config=config, changed=changed)
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *words],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **how,
        )

    def snakemake(self, *arguments, **options):
        """Run snakemake to its end; show its words."""
        words = self.command(*arguments, **options)
        said = self.here.parent / "said.txt"
        return snakemake(words, self.environment(), Path.cwd(), said)

    def planned(self, *arguments, **options):
        """Count the jobs of each rule that a dry run would do."""
        done = self.snakemake("--dry-run", *arguments, **options)
        assert done.returncode == 0, done.said
        jobs = re.findall(r"^(\w+) +(\d+)$", done.said.split("Job stats:")[-1], re.M)
        return {rule: int(number) for rule, number in jobs if rule not in ("total", "all")}


def write_second(path):
    """Counts of 60 real cells of three types; the 12 of the test are too few for UMAP."""
    folder = Path(find_spec("scanpy").submodule_search_locations[0])
    with warnings.catch_warnings(action="ignore"):  # scanpy's file is in an old format
        adata = ad.read_h5ad(folder / "datasets/10x_pbmc68k_reduced.h5ad")
    types = adata.obs.bulk_labels.astype(str)
    wanted = types.isin(["CD19+ B", "CD14+ Monocyte", "CD56+ NK"])
    adata = adata[(wanted & (types.groupby(types).cumcount() < 20)).to_numpy()]
    total = adata.obs.n_counts.to_numpy()[:, None]
    counts = np.rint(np.expm1(adata.raw.X.toarray()) * total / 1e4)
    obs = pd.DataFrame({"kind": adata.obs.bulk_labels.to_numpy().astype(str)})
    obs.index = [f"second{number}" for number in range(len(obs))]
    matrix = sparse.csr_matrix(counts.astype(np.float32))
    ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=adata.raw.var_names)).write_h5ad(path)


def write_datasets(run, **second):
    """Write a table of datasets into the working directory, as the shipped one but for `second`."""
    table = pd.read_csv(run.repository / "tests/workflow/datasets.tsv", sep="\t", dtype=str)
    table.loc[1, list(second)] = list(second.values())
    table.to_csv(run.here / "datasets.tsv", sep="\t", index=False)
    return {"datasets": "datasets.tsv"}
