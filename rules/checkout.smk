# Where the workflow lies, the package scbert included. As a `module:` it may come from a git address: then
# Snakemake reads rules and scripts from the repository, and what must lie in folders is unpacked.
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import HostingProviderFile, LocalSourceFile

UNPACKED = ("Snakefile", "scbert", "rules", "scripts", "config", "envs")


def git(repository, *words):
    """What git says of a repository."""
    command = ["git", "-C", str(repository), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def unpack(repository, commit):
    """The files of a commit below .snakemake/, which all jobs see; many may do this at a time."""
    folder = Path(".snakemake", "scbert", commit).absolute()
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            archive, files = Path(beside, "archive.tar"), Path(beside, "files")
            git(repository, "archive", f"--output={archive}", commit, *UNPACKED)
            with tarfile.open(archive) as tar:
                tar.extractall(files, filter="data")
            try:
                files.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another job was faster
                    raise
    return folder


def find_checkout():
    """The folder of the workflow and its commit, with + if files were changed; empty outside git."""
    here = workflow.current_basedir  # rules/, as Snakemake was told where it is
    if isinstance(here, LocalSourceFile):
        folder = Path(here.path).parent
        return folder, commit_of(folder)
    if not isinstance(here, HostingProviderFile):
        raise WorkflowError(
            f"The workflow is read from {here}, but its package must be read with it. Name it in "
            "the module as github(...) or gitlab(...), or by the path of a copy."
        )
    here.fetch_if_required()
    repository = here.hosted_repo.repo_clone
    commit = git(repository, "rev-parse", "--verify", f"{here.ref}^{{commit}}").strip()
    return unpack(repository, commit), commit


def commit_of(folder):
    """The commit of a folder, with + if files were changed; empty outside git."""
    try:
        commit = git(folder, "rev-parse", "HEAD").strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    changed = subprocess.run(
        ["git", "-C", folder, "diff", "--quiet", "HEAD"], check=False
    ).returncode
    return commit + ("+" if changed else "")


CHECKOUT, COMMIT = find_checkout()
AS_MODULE = workflow.modifier.namespace is not None
IS_MAIN = (
    not workflow.default_target
)  # no rule came before, such as `all` of who uses the module

# Scripts run from a cached copy, in environments without scbert and without git; each rule gives its
# program PYTHONPATH=$SCBERT_CHECKOUT. Snakemake takes PYTHONPATH itself out of the environment of jobs that
# use conda, and shell.prefix would reach the rules of whoever uses this workflow as a module.
os.environ.update(SCBERT_CHECKOUT=str(CHECKOUT))
os.environ.setdefault("SCBERT_COMMIT", COMMIT)
sys.path.insert(0, str(CHECKOUT))


def own_config():
    """The configuration in the working directory, if that is not the repository."""
    own, shipped = Path("config/config.yaml"), CHECKOUT / "config/config.yaml"
    return "" if AS_MODULE or not own.exists() or own.samefile(shipped) else str(own)


OWN_CONFIG = own_config()
