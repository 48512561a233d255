# What needs no configuration: resources, and which code a rule runs.
import ast
import functools
import hashlib
import shlex
from pathlib import Path

from snakemake import __version__ as SNAKEMAKE
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

COMPUTING = {  # folders and files of scbert/
    *("download", "cells", "genes", "tokens", "network", "calibration", "experts"),
    *(
        "evidence",
        "benchmark",
        "report",
        "training",
        "explain",
        "steps",
        "files.py",
        "tables.py",
    ),
}

SHIPPED = {"config", "envs", "rules", "scbert", "scripts"}  # folders of the repository


def found(path):
    """A path of the configuration: in the working directory or else in the repository."""
    shipped = CHECKOUT / path
    return str(shipped) if shipped.exists() and not Path(path).exists() else path


def beside(path):
    """An input that may come with the workflow: it is then not in the storage of a run, if it has one."""
    whole = Path(path).absolute()
    ours = whole.is_relative_to(CHECKOUT)
    shipped = ours and whole.relative_to(CHECKOUT).parts[0] in SHIPPED
    return local(path) if shipped else path


def per_attempt(amount):
    """A resource that grows when a cluster runs the job again (retries of a profile)."""

    def resource(wildcards, attempt):
        return amount * attempt

    return resource


def asked_for(rule_name, resource, otherwise):
    """A resource as the profile or --set-resources gives it, where it replaces that of a rule."""
    name = workflow.modifier.modify_rulename(rule_name)  # as a module: scbert_pretrain
    given = workflow.resource_settings.overwrite_resources.get(name, {})
    return given[resource].raw if resource in given else otherwise


def warn_of_unknown_rules():
    """Snakemake itself ignores what a profile gives to a rule that does not exist."""
    given, known = workflow.resource_settings, {rule.name for rule in workflow.rules}
    for name in sorted({*given.overwrite_resources, *given.overwrite_threads} - known):
        like = " or ".join(sorted(rule for rule in known if name in rule))
        logger.warning(
            f"set-resources or set-threads names the rule {name}, but no rule has that name; these "
            f"values are ignored. Use {like or 'a name that `snakemake --list-rules` shows'}."
        )


def gpus_of(rule_name):
    """How many GPUs the profile gives to a rule, on each node: gpu: 2, or gres: gpu:h100:2."""
    gpus = int(asked_for(rule_name, "gpu", 0))
    nodes = int(asked_for(rule_name, "nodes", 1))
    gres = str(asked_for(rule_name, "gres", "")).strip("'\"").split(":")
    if gpus and nodes > 1:
        raise WorkflowError(
            f"set-resources gives {rule_name} nodes: {nodes} and gpu: {gpus}, which Slurm takes for "
            "all nodes together, and then refuses the step that starts them. Give the GPUs of each "
            "node instead: gres: gpu:N, without gpu and gpu_model."
        )
    if gres[0] != "gpu":
        return gpus
    return int(gres[-1]) if gres[-1].isdigit() else 1


def threads_of(rule_name, on_cpu):
    """A GPU wants four: the trainer, what makes its batches, and the libraries of CUDA."""
    return 4 * gpus_of(rule_name) or on_cpu


def memory_of(rule_name, on_cpu):
    """CUDA and PyTorch's kernels take about 4 GB of each process, on top of what it does."""
    gpus = gpus_of(rule_name)
    return per_attempt((on_cpu + 4000) * gpus if gpus else on_cpu)


def torch_for(rule_name):
    """The conda environment of networks; where there are GPUs it must not hold a PyTorch for CPUs."""
    return f"../envs/torch{'_gpu' if gpus_of(rule_name) else ''}.yaml"


@functools.cache
def module(file):
    """A module without its comments and docstrings, and the files it may import from scbert."""
    tree, imported = ast.parse(file.read_text()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("scbert."):
            folder = CHECKOUT.joinpath(*node.module.split("."))
            names = [alias.name for alias in node.names]
            imported |= {
                path.with_suffix(".py")
                for path in (folder, *(folder / name for name in names))
            }
    return ast.unparse(tree), imported


def code(step, *others):
    """A hash of the code of a step and of all it imports: an edit runs the rule again.

    Settings and logging are left out: settings are params themselves, logs are not results.
    """
    package = CHECKOUT / "scbert"
    assert (package / step).is_file(), step
    return code_of(
        {package / step}, [(package / other).read_text() for other in others]
    )


def code_of_program(file):
    """A hash of what a program outside the package imports of it; the program is an input."""
    return code_of(set(module(Path(file))[1]), [])


def code_of(waiting, others):
    """A hash of modules, of all they import, and of further texts."""
    texts = {}
    while waiting:
        file = waiting.pop()
        if file in texts or not file.is_file():
            continue
        if {file.parent.name, file.name} & COMPUTING:
            texts[file], imported = module(file)
            waiting |= imported
    content = [texts[file] for file in sorted(texts)] + others
    return hashlib.sha256("\0".join(content).encode()).hexdigest()[:16]


class Untracked:
    """A parameter whose change runs no job again: how a file is fetched or how long a job may take.

    Snakemake compares params that are plain values, and leaves out all others.
    """

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return str(self.text)
