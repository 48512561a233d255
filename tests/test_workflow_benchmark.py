"""A small benchmark with a method of one's own, which fails in a fold: what is said of it."""

import pandas as pd
import pytest

pytestmark = pytest.mark.workflow

BASELINES = "scripts/methods/baselines"
METHODS = (
    ("method", "title", "kind", "folder", "options", "optional", "protocols", "setting"),
    ("mine", "Mine", "peer", "mine", "", "no", "", ""),
    ("majority", "Most frequent", "control", BASELINES, "--method majority", "no", "", ""),
    ("forgotten", "Forgotten", "control", BASELINES, "--method random", "no", "", ""),
    ("spare", "Spare", "control", BASELINES, "--method random", "yes", "", ""),
)
PREDICT = """
import sys
if "-1.query" in " ".join(sys.argv):
    raise RuntimeError("unlucky")
answers = sys.argv[sys.argv.index("--answers") + 1]
open(answers, "w").write("cell\\tlabel\\nnobody\\tB\\n")
"""


@pytest.fixture
def changed(fresh):
    folder = fresh.here / "mine"
    folder.mkdir()
    (folder / "predict.py").write_text(PREDICT)
    (folder / "environment.yaml").write_text("dependencies:\n  - python\n")
    lines = ["\t".join(line) + "\n" for line in METHODS]
    (fresh.here / "methods.tsv").write_text("".join(lines))
    protocols = {"used": ["within_dataset"], "folds": 2}
    return {
        "methods": "methods.tsv",
        "chosen": ["mine", "majority"],
        "protocols": protocols,
        "minutes": 5,
    }


def test_a_method_that_fails_or_is_left_out_is_named_in_the_terminal(fresh, changed):
    how = {"config": "config/benchmark-small.yaml"}
    done = fresh.snakemake("results/benchmark.html", changed={"benchmark": changed}, **how)
    assert done.returncode == 0, done.said
    assert "leaves out forgotten: methods.tsv lists more" in done.said  # and not the optional one
    assert "Missing scores: 1, because methods failed (mine)." in done.said
    table = pd.read_csv(fresh.here / "results/benchmark.tsv", sep="\t", keep_default_na=False)
    (reason,) = table.reason[table.method == "mine"]
    assert reason.startswith("fold 0: answers against the contract: the table lacks")
    log = (fresh.here / "logs/score_benchmark/pbmc68k_reduced/seed2021.log").read_text()
    assert "mine failed, within_dataset-all-1: RuntimeError: unlucky" in log
    more = {"benchmark": changed | {"minutes": 10}}
    planned = fresh.planned("results/benchmark.html", changed=more, **how)
    assert planned == {"record_config": 1, "write_benchmark": 1}  # no method runs again
