"""`snakemake queries`: files of unlabelled cells, each with its model, on a cluster or a laptop."""

import re
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from scbert.cells.read import read_cells
from scbert.config import Query
from scbert.steps.annotate_file import annotate_file
from tests.workflow_run import TINY, write_second

pytestmark = pytest.mark.workflow
HEADER = list(Query.model_fields)


def write_queries(run, **lines):
    """Write the table of queries: of each line the file, the model and whether it is scattered."""
    rows = [
        dict.fromkeys(HEADER, "")
        | {"query": name, "file": file, "model": model, "scattered": scattered}
        | {"matrix": "auto", "scale": "auto"}
        for name, (file, model, scattered) in lines.items()
    ]
    pd.DataFrame(rows, columns=HEADER).to_csv(run.here / "queries.tsv", sep="\t", index=False)
    return {"queries": "queries.tsv"}


def test_queries_are_annotated_by_models_of_the_package_and_of_this_run(fresh):
    changed = write_queries(
        fresh,
        one=("package:celltypist/data/samples/sample_cell_by_gene.csv", "blood", "no"),
        two=("https://site.org/two.h5", "results/models/second/seed1", "yes"),
    )
    write_second(fresh.here / "second.h5ad")
    done = fresh.snakemake("-n", "queries", "--set-scatter", "pieces=5", changed=changed)
    assert done.returncode == 0, done.said
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.said, re.M))
    expected = {"annotate_query": "1", "annotate_piece": "5", "gather_query": "1"}
    expected |= {"finetune_training_cells": "1", "summarize_query": "2", "write_queries": "1"}
    assert {rule: jobs[rule] for rule in expected} == expected


def test_a_model_that_does_not_exist_stops_before_any_job(fresh):
    changed = write_queries(fresh, one=("a.h5ad", "blod", "no"))
    done = fresh.snakemake("-n", "queries", changed=changed)
    assert done.returncode != 0
    assert "the model of 'one' is 'blod', but there is no model in that folder. Give" in done.said
    assert "results/models/second/seed1" in done.said
    assert "Traceback" not in done.said


def test_a_query_must_not_take_the_name_of_a_dataset(fresh):
    changed = write_queries(fresh, second=("a.h5ad", "blood", "no"))
    done = fresh.snakemake("-n", changed=changed)
    assert done.returncode != 0
    assert "has a line 'second', but another of these tables" in done.said


def test_a_scattered_file_is_the_one_that_annotate_writes(fresh):
    """The first piece is there already, as after a stop; the second of so few cells has none."""
    folder = Path(find_spec("celltypist").submodule_search_locations[0])
    cells = read_cells(folder / "data/samples/sample_cell_by_gene.csv")[:14]  # too few for UMAP
    cells.write_h5ad(fresh.here / "cells.h5ad")
    changed = write_queries(fresh, cells=("cells.h5ad", "blood", "yes"))
    pieces = ("--set-scatter", "pieces=2")
    first = "results/queries/cells/1-of-2.safetensors"
    done = fresh.snakemake(first, *pieces, "--notemp", changed=changed)
    assert done.returncode == 0, done.said
    done = fresh.snakemake("queries", *pieces, config=TINY, changed=changed)
    assert done.returncode == 0, done.said
    assert re.search(r"^annotate_piece +1$", done.said, re.M)
    assert re.search(r"^look_at_query ", done.said, re.M) is None
    whole = fresh.here / "whole.h5ad"
    found = annotate_file(fresh.here / "cells.h5ad", "blood", whole, device="cpu")
    gathered = fresh.here / "results/queries/cells.h5ad"
    assert gathered.read_bytes() == whole.read_bytes()
    assert not (fresh.here / first).exists()
    page = (fresh.here / "results/queries.html").read_text()
    for said in ("14 cells of 1 file", found.obs.scbert_label.mode()[0], "<svg"):
        assert said in page
