import logging
import subprocess
import sys
from pathlib import Path

import anndata as ad
import pytest
from typer.testing import CliRunner

import scbert
from scbert.cli import app
from scbert.files import read_json
from scbert.steps.annotate_file import annotate

SCBERT = Path(sys.executable).with_name("scbert")


@pytest.fixture
def invoke():
    """Run in this process, and put the logging back that the command starts."""
    level = logging.getLogger("scbert").level
    yield lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments])
    logging.getLogger("scbert").setLevel(level)
    logging.captureWarnings(capture=False)


def run(*arguments):
    """Run as a user does."""
    command = [SCBERT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def query(toy, tmp_path):
    cells = toy.draw_cells(30, seed=5)
    cells.obs["leiden"] = cells.obs.cell_type.astype("category")
    path = tmp_path / "query.h5ad"
    cells.write_h5ad(path)
    return path


def test_annotate_writes_the_file_and_shows_a_table(invoke, query, toy_run, tmp_path):
    out = tmp_path / "out.h5ad"
    result = invoke("annotate", query, "--model", toy_run.model, "--out", out)
    assert result.exit_code == 0
    found, expected = ad.read_h5ad(out), annotate(ad.read_h5ad(query), toy_run.model)
    assert list(found.obs.scbert_label) == list(expected.obs.scbert_label)
    for label, n_cells in expected.obs.scbert_label.value_counts().items():
        line = next(line for line in result.stdout.splitlines() if label in line)
        assert f" {n_cells} " in line


def test_annotate_passes_its_options_on(invoke, query, toy_run, tmp_path):
    cells = ad.read_h5ad(query)
    cells.layers["mine"] = cells.X.copy()
    cells.obs["depth"] = 2 * cells.X.sum(axis=1)
    cells.X = -cells.X
    cells.write_h5ad(query)
    options = {
        "--matrix": "layers/mine",
        "--library-size-key": "depth",
        "--cluster-key": "leiden",
        "--model": toy_run.model,
        "--out": tmp_path / "out.h5ad",
    }
    result = invoke("annotate", query, *(part for pair in options.items() for part in pair))
    assert result.exit_code == 0
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    assert found.uns["scbert"]["matrix"] == "layers/mine"
    expected = annotate(
        cells, toy_run.model, matrix="layers/mine", library_size_key="depth", cluster_key="leiden"
    )
    assert list(found.obs.scbert_majority_voting) == list(expected.obs.scbert_majority_voting)
    assert (found.obs.scbert_confidence == expected.obs.scbert_confidence).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": "nowhere.h5ad"}, "nowhere.h5ad does not exist. Check the path"),
        ({"--model": "nowhere"}, "nowhere is not a model: it has no MANIFEST.sha256"),
        ({"--out": "out.csv"}, "--out is out.csv, but results are written as .h5ad"),
        ({"--cluster-key": "louvain"}, "has no column obs['louvain']"),
        ({"--matrix": "layers/mine"}, "has no matrix 'layers/mine'; it has X"),
    ],
)
def test_a_users_error_is_one_line_on_stderr(invoke, query, toy_run, tmp_path, changes, message):
    out = tmp_path / "out.h5ad"
    options = {"--model": toy_run.model, "--out": out} | changes
    given = options.pop("query", query)
    before = sorted(tmp_path.iterdir())
    result = invoke("annotate", given, *(part for pair in options.items() for part in pair))
    assert result.exit_code == 1
    assert "ERROR: " in result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_pretrained_model_is_refused(invoke, query, toy_run, tmp_path):
    out = tmp_path / "out.h5ad"
    result = invoke("annotate", query, "--model", toy_run.pretrained, "--out", out)
    assert result.exit_code == 1
    assert "is pretrained only and knows no cell types" in result.stderr
    assert not out.exists()


def test_missing_and_unknown_options_are_told(invoke, query):
    assert invoke("annotate", query).exit_code == 2
    assert "--out" in invoke("annotate", query).stderr
    assert invoke("annotate", query, "--modle", "x").exit_code == 2


def test_the_command_itself_helps_and_tells_its_version():
    help_text = run("--help")
    assert help_text.returncode == 0
    assert "annotate" in help_text.stdout
    version = run("--version")
    assert (version.returncode, version.stdout) == (0, f"scbert {scbert.__version__}\n")


def test_the_help_of_explain_names_the_extra(invoke):
    """Brackets in a help text are markup of Rich, which takes them out."""
    assert "pip install '.[explain]'" in " ".join(invoke("explain", "--help").stdout.split())


@pytest.mark.slow
def test_the_command_itself_annotates(query, toy_run, tmp_path):
    out = tmp_path / "out.h5ad"
    done = run("annotate", query, "--model", toy_run.model, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "80 of 80 genes are known" in " ".join(done.stderr.split())
    assert set(ad.read_h5ad(out).obs.scbert_label) == {"B cell", "NK cell", "T cell"}


@pytest.mark.slow
def test_the_command_itself_fails_without_a_trace(toy_run, tmp_path):
    out = tmp_path / "out.h5ad"
    failed = run("annotate", tmp_path / "nowhere.h5ad", "--model", toy_run.model, "--out", out)
    assert failed.returncode == 1
    assert failed.stderr.startswith("ERROR: ")
    assert "nowhere.h5ad does not exist" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert failed.stdout == ""
    assert not list(tmp_path.iterdir())


SMALL = """
counts: {min_genes: 5}
finetune: {hidden: [16], optimizer: {epochs: 1, tokens_per_batch: 512}}
evaluate: {bootstrap_samples: 100}
compare: {methods: [majority]}
"""


def test_finetune_and_evaluate_show_scores_beside_the_control(invoke, query, toy_run, tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    given = ["--label-key", "cell_type"]
    model = tmp_path / "MODEL"
    made = ["--pretrained", toy_run.pretrained, "--config", tmp_path / "small.yaml", "--seed", 3]
    result = invoke("finetune", query, *given, *made, "--out", model)
    assert result.exit_code == 0
    assert "MODEL: 6 test cells" in result.stdout
    assert "scBERT" in result.stdout
    assert "Most frequent" in result.stdout
    result = invoke("evaluate", model, query, *given, "--batch-key", "leiden", "--out", tmp_path)
    assert result.exit_code == 0
    assert "MODEL on query.h5ad: 6 cells of known types" in result.stdout
    assert "left out: 24 cells of the training" in result.stdout
    assert "macro F1 of each batch" in result.stdout
    assert "expected calibration error" in result.stdout
    assert (tmp_path / "evaluation.json").exists()


def test_finetune_without_test_shows_no_test_score(invoke, query, toy_run, tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    made = ["--pretrained", toy_run.pretrained, "--config", tmp_path / "small.yaml", "--seed", 3]
    model = tmp_path / "MODEL"
    result = invoke(
        "finetune", query, "--label-key", "cell_type", *made, "--no-test", "--out", model
    )
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stdout.split())
    cells = read_json(model / "comparison.json")["n_out_of_fold"]
    assert f"MODEL: no test cells; {cells} cells out of fold" in said
    assert "macro F1, out of fold" in said
    assert ", test" not in said
    assert "No cell was held out, so there is no test score." in said
    assert f"scbert evaluate {model} TEST.h5ad --label-key cell_type" in said


@pytest.mark.parametrize("command", ["finetune", "evaluate"])
def test_a_wrong_column_ends_with_a_plain_error(invoke, query, toy_run, tmp_path, command):
    places = {
        "finetune": [query, "--pretrained", toy_run.pretrained, "--out", tmp_path / "MODEL"],
        "evaluate": [toy_run.model, query],
    }
    result = invoke(command, *places[command], "--label-key", "typo")
    assert result.exit_code == 1
    assert "no column obs['typo']" in result.stderr


def test_a_training_that_explodes_ends_with_a_plain_error(invoke, query, tmp_path, monkeypatch):
    def explode(*given, **settings):
        raise FloatingPointError("the loss of step 3 is NaN")

    monkeypatch.setattr("scbert.steps.finetune_file.finetune_file", explode)
    done = invoke("finetune", query, "--label-key", "cell_type", "--out", tmp_path / "model")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "ERROR: the loss of step 3 is NaN"


@pytest.mark.parametrize("command", ["annotate", "embed"])
def test_a_folder_is_refused_before_anything_is_computed(
    command, invoke, query, toy_run, tmp_path, monkeypatch
):
    out = tmp_path / "out.h5ad"
    out.mkdir()
    (out / "mine").write_text("kept")
    monkeypatch.setattr("scbert.training.bundle.load_model", None)
    result = invoke(command, query, "--model", toy_run.model, "--out", out)
    assert result.exit_code == 1
    assert "out.h5ad is a folder, but a file is to be written there" in result.stderr
    assert (out / "mine").read_text() == "kept"


STOPPED = """
import sys, time
import {module} as module
from scbert.cli import app

def wait(*_, **__):
    print("ready", flush=True)
    time.sleep(60)

module.{function} = wait
app(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "module", "function"),
    [
        ("annotate", "scbert.cells.result", "add"),
        ("embed", "scbert.cells.result", "add"),
        ("explain", "scbert.explain.explanation", "write_page"),
        ("finetune", "scbert.steps.finetune_file", "normalize_counts"),
    ],
)
def test_a_command_that_is_told_to_stop_leaves_nothing(
    command, module, function, query, toy_run, tmp_path
):
    out = tmp_path / "results" / ("out" if command in {"explain", "finetune"} else "out.h5ad")
    words = {
        "annotate": [query, "--model", toy_run.model],
        "embed": [query, "--model", toy_run.model],
        "explain": [toy_run.model, query, "--label-key", "cell_type"],
        "finetune": [query, "--label-key", "cell_type", "--pretrained", toy_run.pretrained],
    }[command]
    if command == "explain":
        pytest.importorskip("captum", reason="captum is not installed: extra [explain]")
        words += ["--cells-per-type", "4", "--steps", "4", "--random-draws", "1"]
    if command == "finetune":
        settings = tmp_path / "few.yaml"
        settings.write_text("counts: {min_genes: 5}")
        words += ["--config", settings]
    script = STOPPED.format(module=module, function=function)
    start = [sys.executable, "-c", script, command, *words, "--out", out]
    with subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as one:
        assert one.stdout.readline() == "ready\n", one.stderr.read()
        one.terminate()
        said = one.communicate(timeout=60)[1]
    assert one.returncode == 143, said
    assert "Traceback" not in said
    left = sorted(path.name for path in out.parent.iterdir())
    assert left == ([".out.work"] if command == "finetune" else [])
    if command == "finetune":
        assert list((out.parent / ".out.work").iterdir()) == []
