"""Provenance of a run: versions, commit, platform. Goes into every bundle and every report."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

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


def provenance() -> dict[str, Any]:
    """Return versions, commit and platform.

    The commit is what the Snakefile found (SCBERT_COMMIT), because jobs on a cluster run in
    environments without git; None outside the workflow.
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
