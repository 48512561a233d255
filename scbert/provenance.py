"""Provenance of a run: versions, commit, platform. Goes into every bundle and every report."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict

PACKAGES = (
    "scbert-end-to-end",
    "accelerate",
    "anndata",
    "gensim",
    "numpy",
    "pandas",
    "performer-pytorch",
    "scanpy",
    "scikit-learn",
    "scipy",
    "snakemake",
    "torch",
)


class Provenance(TypedDict):
    """Versions, commit and platform."""

    commit: str | None  # None outside the workflow
    python: str
    platform: str
    packages: dict[str, str]  # versions of those that are installed
    command: str


def provenance() -> Provenance:
    """Return versions, commit and platform.

    The commit is what the Snakefile found (SCBERT_COMMIT), because jobs on a cluster run in
    environments without git.
    """
    return {
        "commit": os.environ.get("SCBERT_COMMIT") or None,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: found for name in PACKAGES if (found := _version_of(name))},
        "command": " ".join(sys.argv),
    }


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
