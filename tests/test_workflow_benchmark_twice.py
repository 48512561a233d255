"""A small benchmark, run twice: the same bytes but for times and memory, and a valid crate."""

import pandas as pd
import pytest

from tests import crate_validator
from tests.workflow_run import Run

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
SMALL = {
    "chosen": ["logistic_regression", "majority", "random"],
    "protocols": {"used": ["within_dataset", "new_type"], "folds": 2, "new_types": 1},
}
TIMES = {"costs.tsv", ".snakemake_timestamp"}
SUMMARIES = {"benchmark.tsv", "benchmark.json", "benchmark.html"}  # which hold times, too
DATED = {"ro-crate-metadata.json"}
MEASURED = ["seconds", "peak_mb", "gpu_mb"]


@pytest.fixture(scope="module")
def twice(tmp_path_factory, repository_copy):
    """The folders of two runs."""
    runs = [Run(tmp_path_factory.mktemp(name), repository_copy) for name in ("first", "second")]
    for run in runs:
        how = {"config": "config/benchmark-small.yaml", "changed": {"benchmark": SMALL}}
        done = run.snakemake("benchmark", **how)
        assert done.returncode == 0, done.said
    return [run.here / "results" for run in runs]


def contents(results):
    """The bytes of each file but those that hold times: by its path."""
    apart = TIMES | SUMMARIES | DATED
    return {
        str(file.relative_to(results)): file.read_bytes()
        for file in results.rglob("*")
        if file.is_file()
        and file.name not in apart
        and not {"runs", "benchmarks", ".sha256"} & set(file.relative_to(results).parts)
    }


def test_a_second_benchmark_gives_the_same_bytes_but_for_times(twice):
    first, second = map(contents, twice)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    room = "benchmark/pbmc68k_reduced/seed2021"
    needed = {f"{room}/scores.tsv", f"{room}/differences.tsv", "benchmark_crate/labels.tsv.gz"}
    needed |= {f"{room}/answers/random/within_dataset-all-1.tsv"}
    assert needed <= first.keys()


def test_the_long_table_of_a_second_benchmark_differs_in_times_and_memory_only(twice):
    first, second = (
        pd.read_csv(results / "benchmark.tsv", sep="\t", dtype=str).drop(columns=MEASURED)
        for results in twice
    )
    assert first.equals(second)
    assert len(first) > 10


def test_the_record_of_a_benchmark_keeps_to_its_profiles(twice, tmp_path):
    python = crate_validator.install(tmp_path / "environment")
    assert crate_validator.failures(python, twice[0] / "benchmark_crate", tmp_path) == []
    metadata = twice[1] / "benchmark_crate/ro-crate-metadata.json"
    metadata.write_text(metadata.read_text().replace('"CreateAction"', '"Dance"'))
    (found,) = crate_validator.failures(python, metadata.parent, tmp_path)
    assert "At least one CreateAction, ActivateAction or UpdateAction MUST" in found
