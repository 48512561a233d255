"""Plans of the workflow for a configuration, and the resources of each rule: nothing is run."""

import ast
import re
import shutil
import sys

import pytest
import yaml

from tests.workflow_run import REPOSITORY, write_datasets, write_second

pytestmark = pytest.mark.workflow


def test_lint_finds_nothing(fresh):
    done = fresh.snakemake("--lint", config="config/config.yaml")
    assert done.returncode == 0, done.said


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            "config",
            {"fetch_dataset": 3, "read_counts": 2, "pretrain": 1, "finetune_training_cells": 3},
        ),
        (
            "panglaodb",
            {"fetch_panglaodb_tables": 1, "select_samples": 1, "finetune_training_cells": 3},
        ),
        ("paper", {"fetch_panglaodb_tables": 1, "select_samples": 1, "finetune_training_cells": 3}),
    ],
)
def test_each_configuration_resolves_in_an_empty_folder(fresh, config, expected):
    """Samples of PanglaoDB are known only after its table is: they are not planned yet."""
    planned = fresh.planned(config=f"config/{config}.yaml")
    assert {rule: planned.get(rule) for rule in expected} == expected
    assert planned["write_report"] == 1
    assert "write_dataset_report" not in planned  # with one dataset the report is its page
    if config == "config":  # if this fails: make docs/rules.svg
        drawn = re.findall(r">(\w+)</text>", (REPOSITORY / "docs/rules.svg").read_text())
        assert {*planned, "all"} == {*drawn}


def test_the_catalogue_of_workflows_finds_the_whole_workflow_and_a_test(fresh):
    """Started as it says: --snakefile workflow/Snakefile --directory .test, without a target."""
    shutil.copytree(REPOSITORY / ".test/config", fresh.here / "config")
    how = ("-s", fresh.repository / "workflow/Snakefile", "--printshellcmds")
    done = fresh.snakemake("--dry-run", *how, config=None)
    assert re.search(r"^write_model_card +1$", done.said, re.M)
    assert '"max_genes":800' in done.said  # of .test/config/config.yaml: tests/workflow/tiny.yaml


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"pretrain": {"mask_prop": 0.2}},
            "unknown key 'pretrain.mask_prop'. Did you mean 'mask_prob'? Allowed here: mask_prob,",
        ),
        (
            {"pretrain": {"mask_prob": 1.5}},
            "key 'pretrain.mask_prob' is 1.5: Input should be less than 1.",
        ),
        (
            {"network": {"heads": 3}},
            "dim is 16, but it must be a multiple of heads (3)",
        ),
        (
            {"finetune": {"head": "pooled"}},
            "key 'finetune.head' is 'pooled': Input should be 'mean' or 'conv'.",
        ),
        ({"datasets": "mine.tsv"}, "datasets: mine.tsv does not exist."),
    ],
)
def test_a_wrong_value_stops_before_any_job(fresh, changed, message):
    done = fresh.snakemake(changed=changed)
    assert done.returncode != 0
    assert message in done.said
    assert "Traceback" not in done.said
    assert "Building DAG" not in done.said
    assert {path.name for path in fresh.here.iterdir()} == {".snakemake", "changed.yaml"}


def test_a_dataset_must_not_take_a_name_of_the_corpus(fresh):
    done = fresh.snakemake("-n", changed=write_datasets(fresh, dataset="celltypist_sample"))
    assert done.returncode != 0
    assert "a line 'celltypist_sample', but another of these tables, or the corpus" in done.said


def test_a_file_of_the_user_in_resources_is_read_and_never_fetched(fresh):
    (fresh.here / "resources").mkdir()
    write_second(fresh.here / "resources/second.h5ad")
    changed = write_datasets(fresh, file="resources/second.h5ad")
    assert fresh.planned(changed=changed)["fetch_dataset"] == 3  # the three embedded files
    done = fresh.snakemake("-n", "results/counts/second.h5ad", changed=changed)
    assert done.returncode == 0
    assert "fetch_dataset" not in done.said


def test_files_of_the_network_are_fetched_first(fresh):
    """A single file, and a folder of three files."""
    table = "sample\tfile\tmatrix\tscale\tsha256\n"
    for name in ("one.h5ad#x", "two.h5", "three.tar.gz", "four/"):
        table += f"{name.partition('.')[0].strip('/')}\thttps://site.org/{name}\tX\tcounts\t\n"
    (fresh.here / "corpus.tsv").write_text(table)
    targets = ["resources/one.h5ad", "resources/two.h5", "resources/three", "resources/four"]
    changed = {"corpus": {"samples": "corpus.tsv"}}
    done = fresh.snakemake("-n", *targets, changed=changed)
    assert done.returncode == 0, done.said
    jobs = dict(re.findall(r"^(fetch_\w+) +(\d+)$", done.said, re.M))
    assert jobs == {"fetch_dataset": "2", "fetch_mtx": "2"}


def test_paths_of_the_configuration_are_looked_up_in_the_working_directory_first(fresh):
    (fresh.here / "config").mkdir()
    table = (fresh.repository / "config/datasets.tsv").read_text()
    (fresh.here / "config/datasets.tsv").write_text(table.replace("pbmc68k_reduced\t", "mine\t"))
    done = fresh.snakemake("-n", config="config/config.yaml")
    assert "results/models/mine/seed2021/README.md" in done.said
    assert str(fresh.repository / "config/ontology/pbmc68k_reduced.tsv") in done.said


def test_slurm_profile_names_real_rules_and_alone_asks_for_gpus(fresh):
    profile = yaml.safe_load((REPOSITORY / "profiles/slurm/config.yaml").read_text())
    rules = fresh.snakemake("--list-rules").said.split()
    assert profile["executor"] == "slurm"
    assert profile["set-resources"].keys() == {"pretrain", "finetune_training_cells"}
    assert profile["set-resources"].keys() <= set(rules)
    assert all(wanted["gpu"] == 1 for wanted in profile["set-resources"].values())
    for file in (REPOSITORY / "rules").glob("*.smk"):
        assert set(re.findall(r"gpu=(.*),", file.read_text())) <= {"0"}


@pytest.mark.parametrize(
    ("given", "threads", "memory", "launch"),
    [
        ((), 2, 6000, "SCBERT_GPUS=0 PYTHONPATH=$SCBERT_CHECKOUT python -m scbert.training.launch"),
        (("gpu=4",), 16, 40_000, "SCBERT_GPUS=4 "),
        (("nodes=2", "gres=gpu:h100:2"), 8, 20_000, "--nodes 2"),
        (("nodes=2", "tasks=2"), 2, 6000, "--nodes 2"),
    ],
)
def test_threads_and_memory_of_a_node_grow_with_its_gpus(fresh, given, threads, memory, launch):
    changed = [f"pretrain:{resource}" for resource in given]
    more = ("--set-resources", *changed) if changed else ()
    options = ("pretrain", "--dry-run", "--printshellcmds", "--cores", "64", *more)
    said = fresh.snakemake(*options, config="config/config.yaml").said
    (job,) = re.findall(r"rule pretrain:\n(.*? > logs/pretrain.log)", said, re.S)
    assert re.search(r"threads: (\d+)", job)[1] == str(threads)
    assert re.search(r"mem_mb=(\d+)", job)[1] == str(memory)
    assert launch in job


def test_resources_of_a_rule_that_does_not_exist_give_a_warning(fresh):
    """Else fine-tuning would run on the CPU although its profile asks for a GPU."""
    given = ("--set-resources", "finetune:gpu=1", "--set-threads", "mine=2")
    said = fresh.snakemake("--dry-run", *given, config="config/config.yaml").said
    assert "names the rule finetune, but no rule has that name" in said
    assert "Use finetune_training_cells." in said
    assert "names the rule mine, but no rule has that name" in said


def test_gpus_of_all_nodes_together_are_refused(fresh):
    """Slurm's plugin for Snakemake starts jobs in a step of one node, which cannot have them."""
    done = fresh.snakemake("--dry-run", "--set-resources", "pretrain:nodes=2", "pretrain:gpu=8")
    assert done.returncode
    assert "gres: gpu:N, without gpu and gpu_model" in done.said


def test_steps_that_read_a_model_are_given_all_that_finetuning_writes():
    """Without a shared disk a job has only what is declared as its input."""
    rule = (REPOSITORY / "rules/annotate.smk").read_text().split("\nrule ")[1]
    written = re.findall(r'"results/models/\{dataset\}/seed\{seed\}/([\w.]+)"', rule)
    function = (REPOSITORY / "rules/files.smk").read_text().split("def model_files")[1]
    given = re.findall(r'"([\w]+\.\w+)"', function.split("\n\n\n")[0])
    assert sorted(given) == sorted(written)
    assert "MANIFEST.sha256" in given


def imports_of(file):
    """Packages that a file imports when it is loaded, by itself or by way of the package."""
    waiting, seen, packages = [file], set(), set()
    while waiting:
        current = waiting.pop()
        if current in seen or not current.is_file():
            continue
        seen.add(current)
        for node in ast.parse(current.read_text()).body:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module.startswith("scbert"):
                names += [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                if name.startswith("scbert"):
                    path = REPOSITORY.joinpath(*name.split("."))
                    waiting += [path.with_suffix(".py"), path / "__init__.py"]
                else:
                    packages.add(name.split(".")[0])
    return packages - {*sys.stdlib_module_names}


def test_each_rule_gives_its_program_the_package():
    """PYTHONPATH=$SCBERT_CHECKOUT stands before it: rules/checkout.smk says why."""
    programs = 0
    for file in (REPOSITORY / "rules").glob("*.smk"):
        for shell in re.findall(r"    shell:\n((?: {8}.*\n)+)", file.read_text()):
            words = "".join(re.findall(r'"(.*)"\n', shell))
            for before in re.findall(r"(.*?)(?:python|\{params\.python:q\}) (?:-m|\{input)", words):
                assert before.endswith("PYTHONPATH=$SCBERT_CHECKOUT "), (file.name, words)
                programs += 1
    assert programs > 25


def test_each_environment_holds_what_its_rules_import():
    called = {"sklearn": "scikit-learn", "torch": "pytorch", "yaml": "pyyaml", "umap": "umap-learn"}
    called |= {"performer_pytorch": "performer-pytorch", "matplotlib": "matplotlib-base"}
    called |= {
        "scib_metrics": "scib-metrics",
        "scikit_posthocs": "scikit-posthocs",
        "isal": "python-isal",
    }
    checked = 0
    for file in (REPOSITORY / "rules").glob("*.smk"):
        for rule in re.split(r"\n(?:rule|checkpoint) ", file.read_text())[1:]:
            script = re.search(r"scripts/(\w+\.py)", rule)
            environment = re.search(r"(?:envs/|conda:\s+)(\w+)(?:\.yaml|_for\()", rule)
            if script and environment:
                listed = (REPOSITORY / f"envs/{environment[1]}.yaml").read_text()
                for package in imports_of(REPOSITORY / "scripts" / script[1]):
                    name = called.get(package, package)
                    assert re.search(rf"- {name} ?[=>]", listed), (script[1], environment[1], name)
                checked += 1
    assert checked > 15


@pytest.mark.parametrize("batch_mixing", [True, False])
def test_batch_mixing_is_measured_where_it_is_asked_for_and_batches_are_named(fresh, batch_mixing):
    """panc8 names its laboratories, pbmc3k no batch; nothing of the transfer is measured."""
    asked = {"datasets": ["panc8", "pbmc3k"], "seeds": [1], "batch_mixing": batch_mixing}
    folder = fresh.here / "resources/benchmark"
    folder.mkdir(parents=True)
    for name in ("panc8_small500_labelled", "pbmc3k_labelled", "pbmc8k_labelled", "baron_human1"):
        (folder / f"{name}.h5ad").touch()
    changed = {"benchmark": asked}
    how = {"config": "config/benchmark.yaml", "changed": changed}
    planned = fresh.planned("results/benchmark.html", **how)
    measured = {"embed_benchmark_cells", "measure_batch_mixing"}
    assert {name: planned.get(name) for name in measured} == dict.fromkeys(
        measured, 1 if batch_mixing else None
    )


def test_the_datasets_of_the_paper_are_downloaded_read_and_joined(fresh):
    for name in ("baron", "muraro", "segerstolpe", "xin", "macparland"):
        (fresh.here / "resources/benchmark" / name).mkdir(parents=True)
    planned = fresh.planned("results/benchmark.html", config="config/benchmark-paper.yaml")
    rules = {"fetch_mtx": 1, "fetch_dataset": 1, "join_datasets": 1, "read_counts": 7}
    assert {rule: planned[rule] for rule in rules} == rules
