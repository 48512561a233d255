"""The real workflow on the real embedded cells, from a copy of the repository that tests may edit.

Everything runs in a folder outside the repository, as a user's own run would.
"""

import re
from zipfile import ZipFile

import anndata as ad
import pandas as pd
import pytest
import yaml

from scbert.config import load_config
from scbert.files import read_json, sha256_of
from tests.workflow_run import COMMIT, DATASETS, TINY, Run, write_second

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The tiny run, done once."""
    run = Run(tmp_path_factory.mktemp("finished"))
    write_second(run.here / "second.h5ad")
    done = run.snakemake()
    assert done.returncode == 0, done.said
    return run


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
    for log in (
        "read_counts/second.log",
        "pretrain.log",
        "evaluate_test_cells/second.log",
        "write_report.log",
    ):
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
            {
                "evaluate_test_cells": 2,
                "compare": 2,
                "write_model_card": 2,
                "write_report": 1,
                "write_dataset_report": 2,
            },
            {"read_counts", "pretrain", "finetune_training_cells", "annotate_test_cells"},
        ),
        (
            {"finetune": {"dropout": 0.5}},
            {
                "finetune_training_cells": 2,
                "annotate_test_cells": 2,
                "evaluate_test_cells": 2,
                "write_report": 1,
            },
            {"read_counts", "bin_expression", "train_gene2vec", "pretrain"},
        ),
        (
            {"finetune": {"seeds": [1, 2]}},
            {"finetune_training_cells": 2, "annotate_test_cells": 2},
            {"pretrain"},
        ),
        (
            {"pretrain": {"mask_prob": 0.3}},
            {"pretrain": 1, "finetune_training_cells": 2},
            {"bin_expression", "train_gene2vec"},
        ),
        (  # a model is not trained again because the next one shall be on another device
            {"device": "cpu"},
            {"write_report": 1, "write_dataset_report": 2},
            {"pretrain", "finetune_training_cells", "annotate_test_cells", "explain_test_cells"},
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
            "report/report.html.jinja",
            {"write_report": 1, "write_dataset_report": 2},
        ),
        ("steps/write_model_card.py", {"write_model_card": 2}),
        (
            "report/style.py",  # imported by a module that the step imports
            {
                "draw_corpus_figures": 1,
                "draw_dataset_figures": 2,
                "explain_test_cells": 2,
                "write_report": 1,
                "write_dataset_report": 2,
            },
        ),
        ("training/loop.py", {}),  # training records its commit instead
        ("config/load.py", {}),
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
    file = finished.repository / "scbert/tokens/tokenize.py"
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
        page = archive.read("snakemake/report.html").decode()
    assert str(finished.here) in page  # where it was made
    for words in ("second: genes", "integrated gradients", "attention sums"):  # a switch
        assert words in page
    assert sum(name.endswith("/confusion.svg") for name in names) == len(DATASETS)
