"""The real workflow on the real embedded cells, from a copy of the repository that tests may edit.

Everything runs in a folder outside the repository, as a user's own run would.
"""

import ast
import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from scbert.config import load_config
from scbert.files import read_json, sha256_of
from tests.loopback import Site, wait_for_part
from tests.panglaodb_mirror import ADDRESSES, MOUSE, RPKM_ONLY, copy_mirror, make_mirror

pytestmark = pytest.mark.workflow

REPOSITORY = Path(__file__).resolve().parent.parent
PARTS = ("Snakefile", "rules", "scripts", "envs", "config", "profiles", "report", "scbert", "tests")
TINY = "tests/workflow/tiny.yaml"
COMMIT = "0123456789abcdef"
DATASETS = ("pbmc68k_reduced", "second")


class Run:
    """A copy of the repository and a working directory elsewhere."""

    def __init__(self, folder):
        self.repository, self.here = folder / "repository", folder / "here"
        self.here.mkdir()
        for part in PARTS:
            copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy
            self.repository.mkdir(exist_ok=True)
            copy(REPOSITORY / part, self.repository / part)

    def start(self, *arguments, config=TINY, changed=None, **how):
        """Start snakemake with a configuration file and, on top, changed values."""
        files = [self.repository / config]
        if changed is not None:
            files.append(self.here / "changed.yaml")
            files[-1].write_text(yaml.safe_dump(changed))
        command = [sys.executable, "-m", "snakemake", "--cores", "2"]
        command += ["-s", self.repository / "Snakefile", "--directory", self.here]
        bin_folder = Path(sys.executable).parent  # the rules call plain python
        path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            [str(word) for word in [*command, *arguments, "--configfile", *files]],
            env={**os.environ, "PATH": path, "SCBERT_COMMIT": COMMIT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **how,
        )

    def snakemake(self, *arguments, **options):
        """Run snakemake to its end; show its words."""
        with self.start(*arguments, **options) as done:
            done.said, _ = done.communicate()
        return done

    def planned(self, **options):
        """Count the jobs of each rule that a dry run would do."""
        done = self.snakemake("--dry-run", **options)
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


@pytest.fixture
def fresh(tmp_path):
    return Run(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The tiny run, done once."""
    run = Run(tmp_path_factory.mktemp("finished"))
    write_second(run.here / "second.h5ad")
    done = run.snakemake()
    assert done.returncode == 0, done.said
    return run


def test_lint_finds_nothing(fresh):
    done = fresh.snakemake("--lint", config="config/config.yaml")
    assert done.returncode == 0, done.said


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("config", {"fetch_dataset": 3, "read_counts": 2, "pretrain": 1, "finetune": 3}),
        ("panglaodb", {"fetch_panglaodb_tables": 1, "select_samples": 1, "finetune": 3}),
        ("paper", {"fetch_panglaodb_tables": 1, "select_samples": 1, "finetune": 3}),
    ],
)
def test_each_configuration_resolves_in_an_empty_folder(fresh, config, expected):
    """Samples of PanglaoDB are known only after its table is: they are not planned yet."""
    planned = fresh.planned(config=f"config/{config}.yaml")
    assert {rule: planned.get(rule) for rule in expected} == expected
    assert planned["report"] == 1
    assert "report_dataset" not in planned  # with one dataset the report is its page


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
            {"network": {"dim": 18}},
            "dim is 18, but it must be a multiple of heads (2) and of 4",
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
    assert "a line 'celltypist_sample', but the corpus uses that name" in done.said


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


def test_run_makes_every_page_and_card(finished):
    results = finished.here / "results"
    report = (results / "report.html").read_text()
    for dataset in DATASETS:
        page = (results / f"reports/{dataset}.html").read_text()
        others = set(DATASETS) - {dataset}
        assert f"<h1>scBERT on {dataset}" in page
        assert f"<h2>{dataset}" in page
        assert f"<h2>{dataset}" in report
        assert not any(f"<h2>{other}" in page for other in others)
        assert COMMIT in page
        card = (results / f"models/{dataset}/seed1/README.md").read_text()
        assert f"# scBERT for {dataset}, seed 1" in card
        assert f"Commit {COMMIT}" in card
        assert "| Logistic regression |" in card
    sha256 = sha256_of(finished.here / "second.h5ad")
    assert sha256 in (results / "models/second/seed1/README.md").read_text()


def test_run_scores_exactly_the_test_cells(finished):
    for dataset in DATASETS:
        results = finished.here / "results"
        split = pd.read_csv(results / f"splits/{dataset}.tsv", sep="\t").set_index("cell")
        test = set(split.index[split.part == "test"])
        expected = {"pbmc68k_reduced": 142, "second": 12}[dataset]
        assert len(test) == expected
        predicted = ad.read_h5ad(results / f"predictions/{dataset}/seed1.h5ad")
        assert set(predicted.obs_names) == test
        assert read_json(results / f"metrics/{dataset}/evaluation.json")["n_test"] == len(test)
        comparison = read_json(results / f"metrics/{dataset}/comparison.json")
        methods = [row["method"] for row in comparison["methods"]]
        weights = read_json(results / f"models/{dataset}/seed1/calibration.json")["experts"]
        asked = [n for n, one in weights.items() if n != "encoder" or one["weight"] > 0]
        experts = [f"scbert_{name}" for name in asked]
        assert len(experts) >= 3
        assert methods == ["scbert", *experts, "majority", "logistic_regression"]


def test_run_keeps_test_cells_and_other_datasets_out_of_the_corpus(finished):
    results = finished.here / "results"
    corpus = pd.read_csv(results / "tokens/embedded/cells.tsv", sep="\t")
    assert set(corpus["sample"]) == {"celltypist_sample", "pbmc68k_reduced.train"}
    split = pd.read_csv(results / "splits/pbmc68k_reduced.tsv", sep="\t").set_index("cell")
    joined = corpus.cell[corpus["sample"] == "pbmc68k_reduced.train"]
    assert set(joined) == set(split.index[split.part == "train"])


def test_run_follows_and_records_its_configuration(finished):
    results = finished.here / "results"
    recorded = load_config(read_json(results / "config.json"))
    tiny = yaml.safe_load((finished.repository / TINY).read_text())
    assert recorded.network.dim == tiny["network"]["dim"]
    assert recorded.binning.n_bins == 5  # of config/config.yaml
    assert len(pd.read_csv(results / "vocabulary.tsv", sep="\t")) == tiny["vocabulary"]["max_genes"]
    model = read_json(results / "models/second/seed1/config.json")
    assert (model["network"]["dim"], model["seed"]) == (16, 1)
    labels = read_json(results / "models/pbmc68k_reduced/seed1/labels.json")
    terms = [label["ontology_term_id"] for label in labels]
    assert any(re.fullmatch(r"CL:\d{7}", term) for term in terms)  # the repository's table is found


def test_run_logs_each_step_and_leaves_nothing_unfinished(finished):
    made = [path for path in (finished.here / "results").rglob("*") if path.is_file()]
    hidden = {path.name for path in made if path.name.startswith(".")}
    assert hidden <= {".snakemake_timestamp"}
    logs = finished.here / "logs"
    for log in ("read_counts/second.log", "pretrain.log", "evaluate/second.log", "report.log"):
        text = (logs / log).read_text()
        assert " INFO " in text
        assert "ERROR" not in text


def test_a_second_run_has_nothing_to_do(finished):
    done = finished.snakemake()
    assert done.returncode == 0
    assert "Nothing to be done" in done.said


@pytest.mark.parametrize(
    ("changed", "rerun", "kept"),
    [
        (
            {"evaluate": {"seed": 7}},
            {"evaluate": 2, "compare": 2, "write_model_card": 2, "report": 1, "report_dataset": 2},
            {"read_counts", "pretrain", "finetune", "annotate"},
        ),
        (
            {"finetune": {"dropout": 0.5}},
            {"finetune": 2, "annotate": 2, "evaluate": 2, "report": 1},
            {"read_counts", "bin_expression", "train_gene2vec", "pretrain"},
        ),
        ({"finetune": {"seeds": [1, 2]}}, {"finetune": 2, "annotate": 2}, {"pretrain"}),
        (
            {"pretrain": {"mask_prob": 0.3}},
            {"pretrain": 1, "finetune": 2},
            {"bin_expression", "train_gene2vec"},
        ),
        (  # a model is not trained again because the next one shall be on another device
            {"device": "cpu"},
            {"report": 1, "report_dataset": 2},
            {"pretrain", "finetune", "annotate", "explain"},
        ),
    ],
)
def test_a_changed_value_runs_again_what_depends_on_it(finished, changed, rerun, kept):
    planned = finished.planned(changed=changed)
    assert {rule: planned.get(rule) for rule in rerun} == rerun
    assert not kept & planned.keys()


@pytest.mark.parametrize(
    ("module", "rerun"),
    [
        (
            "evidence/report.html.jinja",
            {"report": 1, "report_dataset": 2},
        ),
        ("steps/card.py", {"write_model_card": 2}),
        (
            "evidence/figures.py",  # imported by a module that the step imports
            {
                "draw_corpus_figures": 1,
                "draw_dataset_figures": 2,
                "explain": 2,
                "report": 1,
                "report_dataset": 2,
            },
        ),
        ("training/loop.py", {}),  # training records its commit instead
        ("config/sections.py", {}),
    ],
)
def test_edited_code_runs_its_steps_again(finished, module, rerun):
    file = finished.repository / "scbert" / module
    before = file.read_text()
    try:
        file.write_text(before + "\nEDITED = True\n")
        assert finished.planned() == rerun
    finally:
        file.write_text(before)


def test_a_comment_or_a_touched_module_runs_nothing(finished):
    file = finished.repository / "scbert/cells/tokens.py"
    before = file.read_text()
    try:
        file.write_text(before + "\n# a remark\n")
        assert finished.planned() == {}
    finally:
        file.write_text(before)
    assert finished.planned() == {}


def test_report_of_snakemake_has_captions_and_categories(finished):
    done = finished.snakemake("--report", finished.here / "snakemake.html")
    assert done.returncode == 0, done.said
    page = (finished.here / "snakemake.html").read_text()
    for words in ("Corpus and pretraining", "Datasets", "Report", "Scores beside baselines"):
        assert words in page
    assert "Every method on the test cells of second" in page  # a caption, filled in
    done = finished.snakemake("--report", finished.here / "snakemake.zip")
    assert done.returncode == 0, done.said
    with ZipFile(finished.here / "snakemake.zip") as archive:
        names = archive.namelist()
    assert "snakemake/report.html" in names
    assert sum(name.endswith("/confusion.svg") for name in names) == len(DATASETS)


def test_a_failing_step_says_why_and_leaves_no_output(fresh):
    write_second(fresh.here / "second.h5ad")
    changed = write_datasets(fresh, label_key="celltype")
    done = fresh.snakemake("results/counts/second.h5ad", changed=changed)
    assert done.returncode != 0
    assert re.search(r"ERROR: .*second\.h5ad.*'celltype'", done.said)
    assert "kind" in done.said  # the columns that there are
    counts = fresh.here / "results/counts"
    assert not counts.exists() or list(counts.iterdir()) == []


@pytest.fixture(params=["real", "synthetic"])
def panglaodb_site(request, tmp_path):
    """PanglaoDB's tables and some samples over loopback: its address, and which kind it is."""
    shared = Path(os.environ.get("SCBERT_SHARED_DATA", REPOSITORY / "../shared/data")) / "panglaodb"
    site = tmp_path / "site"
    if request.param == "synthetic":
        make_mirror(site)
    elif shared.is_dir():
        copy_mirror(shared, site)
    else:
        pytest.skip(f"{shared} is absent (set SCBERT_SHARED_DATA)")
    handler = partial(SimpleHTTPRequestHandler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", request.param
        server.shutdown()


def test_panglaodb_from_its_site_to_tokens_and_gene_vectors(fresh, panglaodb_site):
    address, kind = panglaodb_site
    urls = {name: [f"{address}/{path}"] for name, path in ADDRESSES.items()}
    changed = {
        "corpus": {"panglaodb": {"urls": urls}},
        "counts": {"min_genes": 50},  # real samples are cut to 50 cells, many of them nearly empty
        "vocabulary": {"min_cells": 5, "min_samples": 1},  # of few
        "gene2vec": {"dim": 20, "epochs": 1},
        "network": {"dim": 20},
    }
    targets = ["results/tokens/panglaodb", "results/gene2vec", "results/corpus/quality.tsv"]
    done = fresh.snakemake(*targets, config="config/panglaodb.yaml", changed=changed)
    assert done.returncode == 0, done.said
    chosen, quality = (
        pd.read_csv(fresh.here / f"results/corpus/{table}.tsv", sep="\t", index_col="sample")
        for table in ("samples", "quality")
    )
    assert [*chosen.loc[MOUSE, ["included", "reason"]]] == ["no", "species is not Homo sapiens"]
    joined = {*chosen.index[chosen.included == "yes"], "pbmc68k_reduced.train"}
    meta = read_json(fresh.here / targets[0] / "meta.json")
    assert {source["sample"] for source in meta["sources"]} == joined
    assert meta["cells"] == quality.cells_kept[[*joined & {*quality.index}]].sum() + 416
    assert quality.decision[quality.cells_kept == 0].tolist() == ["left out"] * (kind != "real")
    vectors = read_json(fresh.here / targets[1] / "meta.json")
    assert vectors["genes_with_pairs"] > 100
    assert {name for name, n in vectors["pairs_per_sample"].items() if n} <= joined
    if kind == "synthetic":
        assert "sm2" in quality.reason[RPKM_ONLY]
        counts = ad.read_h5ad(fresh.here / "results/counts/SRA1_SRS1.h5ad").obs
        assert set(zip(counts.cluster, counts.cell_type, strict=True)) == {
            ("0", "T cells"),
            ("1", ""),
        }


def test_a_killed_run_downloads_nothing_twice(fresh, monkeypatch):
    """SIGKILL to snakemake and its jobs while one download stalls and others are complete."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    samples = [f"SRA{number}_SRS{number}" for number in range(1, 4)]
    targets = [f"resources/panglaodb/{sample}.sparse.RData" for sample in samples]
    bodies = {
        f"/{sample}": gzip.compress(b"RDX3\nX\n" + np.random.default_rng(n).bytes(400_000))
        for n, sample in enumerate(samples)
    }
    with Site(bodies) as site:
        site.mood = lambda asked: "stall" if is_first(site, asked, "/SRA1_SRS1") else "ok"
        changed = {"corpus": {"panglaodb": {"urls": {"counts": [site.url + "/{sample}"]}}}}
        run = fresh.start(*targets, changed=changed, start_new_session=True)
        try:
            assert site.stalled.wait(120)
            wait_for(fresh.here / target for target in targets[1:])
            wait_for_part(fresh.here / targets[0], 1)
        finally:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
        assert not (fresh.here / targets[0]).exists()
        fresh.snakemake("--unlock", changed=changed)
        done = fresh.snakemake(*targets, changed=changed)
        assert done.returncode == 0, done.said
        asked = sorted((asked.path, bool(asked.range)) for asked in site.asked)
    for target, body in zip(targets, bodies.values(), strict=True):
        assert (fresh.here / target).read_bytes() == body
    resumed = [("/SRA1_SRS1", True)]
    assert asked == sorted([(path, False) for path in bodies] + resumed)
    how = changed | {"download": {"attempts": 3}}  # how a file is fetched is no reason to fetch it
    assert "Nothing to be done" in fresh.snakemake(*targets, changed=how).said


def is_first(site, asked, path):
    return asked.path == path and [one.path for one in site.asked].count(path) == 1


def wait_for(paths):
    """Wait until the files are there."""
    tick = threading.Event()
    for path in paths:
        for _ in range(12_000):
            if path.exists():
                break
            tick.wait(0.01)
        assert path.exists()


def test_slurm_profile_names_real_rules_and_alone_asks_for_gpus(fresh):
    profile = yaml.safe_load((REPOSITORY / "profiles/slurm/config.yaml").read_text())
    rules = fresh.snakemake("--list-rules").said.split()
    assert profile["executor"] == "slurm"
    assert profile["set-resources"].keys() == {"pretrain", "finetune"}
    assert profile["set-resources"].keys() <= set(rules)
    assert all(wanted["gpu"] == 1 for wanted in profile["set-resources"].values())
    for file in (REPOSITORY / "rules").glob("*.smk"):
        assert set(re.findall(r"gpu=(.*),", file.read_text())) <= {"0"}


@pytest.mark.parametrize(
    ("given", "threads", "memory", "launch"),
    [
        ((), 2, 6000, "SCBERT_GPUS=0 python -m scbert.training.launch --device auto --nodes 1"),
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


def test_gpus_of_all_nodes_together_are_refused(fresh):
    """Slurm's plugin for Snakemake starts jobs in a step of one node, which cannot have them."""
    done = fresh.snakemake("--dry-run", "--set-resources", "pretrain:nodes=2", "pretrain:gpu=8")
    assert done.returncode
    assert "gres: gpu:N, without gpu and gpu_model" in done.said


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


def test_each_environment_holds_what_its_rules_import():
    called = {"sklearn": "scikit-learn", "torch": "pytorch", "yaml": "pyyaml", "umap": "umap-learn"}
    called |= {"performer_pytorch": "performer-pytorch", "matplotlib": "matplotlib-base"}
    checked = 0
    for file in (REPOSITORY / "rules").glob("*.smk"):
        for rule in re.split(r"\n(?:rule|checkpoint) ", file.read_text())[1:]:
            script = re.search(r"scripts/(\w+\.py)", rule)
            environment = re.search(r"envs/(\w+\.yaml)", rule)
            if script and environment:
                listed = (REPOSITORY / "envs" / environment[1]).read_text()
                for package in imports_of(REPOSITORY / "scripts" / script[1]):
                    name = called.get(package, package)
                    assert re.search(rf"- {name} ?=", listed), (script[1], environment[1], name)
                checked += 1
    assert checked > 15
