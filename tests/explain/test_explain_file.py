"""Step and command explain, on a model whose truth is known and on the toy model."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from scbert.cells.how_to_read import AUTOMATIC
from scbert.cli import app
from scbert.explain.chosen_cells import Candidates, choose_cells
from scbert.explain.enrichment import MarkersAndSets
from scbert.explain.explain_cells import explain_cells
from scbert.files import read_json
from scbert.network.model import CellTypeModel, new_encoder
from scbert.steps.explain_file import explain_file
from scbert.steps.explain_test_cells import explain_test_cells
from scbert.tokens.store import open_store
from scbert.training.bundle import load_finetuned

pytest.importorskip("captum", reason="captum is not installed: extra [explain]")


@pytest.fixture
def settings(config, toy):
    small = {"deletions": (1, 2, 5), "random_draws": 2, "bootstrap_samples": 200}
    return toy.change(config.explain, cells_per_type=6, steps=8, top_genes=5, **small)


class ThreeGenes(nn.Module):
    """A head that adds up the bins of three genes of each type, and sees nothing else."""

    def __init__(self, genes_of_type):
        super().__init__()
        self.register_buffer("used", genes_of_type)  # (types, vocabulary)

    def forward(self, x_BGD, genes_BG, real_BG):
        bins_BG = x_BGD[..., 0] * real_BG
        return torch.einsum("bg,cbg->bc", bins_BG, self.used[:, genes_BG]), bins_BG[:, :1]


@pytest.fixture
def three_genes(toy, toy_run, config):
    """A bundle whose network looks at all genes alike and whose head uses three of each type."""
    bundle = load_finetuned(toy_run.model)
    symbols = bundle.genes.symbol.tolist()
    chosen = [[symbols.index(f"GENE{10 * c + n}") for n in (7, 8, 9)] for c in range(3)]
    used = torch.zeros(3, len(symbols))
    for number, genes in enumerate(chosen):
        used[number, genes] = 1.0
    encoder = new_encoder(config.network, 5, torch.zeros(len(symbols), config.network.dim), seed=1)
    with torch.no_grad():
        for parameter in encoder.performer.parameters():
            parameter.zero_()  # equal attention that changes nothing
        encoder.token.weight.zero_()
        encoder.token.weight[:6, 0] = torch.arange(6.0)  # bins; the mask and padding are 0
    encoder.norm = nn.Identity()
    model = CellTypeModel(encoder, ThreeGenes(used)).eval()
    names = [[symbols[gene] for gene in genes] for genes in chosen]
    weights = {"logistic_regression": 0.0, "discriminant": 0.0, "encoder": 1.0}
    shares = {name: {"weight": weight, "temperature": 1.0} for name, weight in weights.items()}
    calibration = bundle.calibration | {"experts": shares}
    return replace(bundle, network=model, calibration=calibration), names


def test_gradients_find_the_three_genes_and_equal_attention_fails(three_genes, toy_run, settings):
    bundle, names = three_genes
    store = open_store(toy_run.tokens)
    types = pd.read_csv(toy_run.split, sep="\t").set_index("cell")
    given = types.cell_type[store.cell_names()].to_numpy(dtype=str)
    rows = pd.RangeIndex(len(store)).to_numpy()
    candidates = Candidates("toy", store, rows, given)
    chosen_cells = choose_cells(candidates, bundle, settings, torch.device("cpu"))
    found = explain_cells(chosen_cells, MarkersAndSets({}, {}, {}), settings)
    gradients = found.rankings[0]
    symbols = bundle.genes.symbol.to_numpy()
    for number, expected in enumerate(names):
        assert set(symbols[gradients.top(number, 3)]) == set(expected)
    verdict = found.judged[found.judged.verdict != ""].set_index("method").verdict
    assert verdict.to_dict() == {
        "gradients": "passes",
        "gradients_mean": "passes",
        "attention": "fails",
        "expression": "control",
        "logistic_regression": "control",
    }
    assert found.missed.max() < 1e-4  # a linear model: the values add up exactly


def test_genes_that_the_model_does_not_take_are_never_removed(three_genes, toy_run, settings):
    bundle, _ = three_genes
    used = [number % 2 == 0 for number in range(len(bundle.genes))]
    half = replace(bundle, genes=bundle.genes.assign(used=used), experts={})
    store = open_store(toy_run.tokens)
    candidates = Candidates("toy", store, pd.RangeIndex(30).to_numpy())
    chosen_cells = choose_cells(candidates, half, settings, torch.device("cpu"))
    assert chosen_cells.expression()[:, ::2].any()
    assert not chosen_cells.expression()[:, 1::2].any()
    assert not chosen_cells.store.measured[:, 1::2].any()


@pytest.mark.slow
def test_explain_test_cells_writes_tables_figures_and_a_page(toy_run, tmp_path, settings):
    markers = tmp_path / "markers.tsv"
    lines = [f"Hs\tGENE{number}\tB cells\n" for number in range(1, 11)]
    lines += [f"Hs\tGENE{number}\tT cells\n" for number in range(21, 31)]
    markers.write_text("species\tofficial gene symbol\tcell type\n" + "".join(lines))
    sets = tmp_path / "sets.gmt"
    sets.write_text("of B\tx\tGENE1\tGENE2\tGENE3\tGENE4\n")
    out = tmp_path / "toy"
    explain_test_cells(
        *(toy_run.tokens, toy_run.split, toy_run.model), [markers], [], [sets], out, settings, "cpu"
    )
    about = read_json(out / "explanation.json")
    assert sum(about["cells"].values()) <= 18
    assert about["marker_types"] == {"B cell": "B cells", "T cell": "T cells"}
    judged = pd.read_csv(out / "deletion.tsv", sep="\t")
    for method, found in about["methods"].items():
        row = judged[(judged.method == method) & judged.verdict.notna()].iloc[0]
        assert row.verdict == found["verdict"]
        assert row.over_control == pytest.approx(found["over_control"], rel=1e-4)
        assert row.difference == pytest.approx(found["difference"], rel=1e-4)
    genes = pd.read_csv(out / "genes.tsv", sep="\t")
    best = genes[(genes.cell_type == "B cell") & (genes.expression_rank <= 5)].gene
    assert set(best) <= {f"GENE{number}" for number in range(1, 11)}
    overlaps = pd.read_csv(out / "markers.tsv", sep="\t")
    own = overlaps[(overlaps.method == "expression") & (overlaps.cell_type == "B cell")].iloc[0]
    assert (own.gene_set, own.matched_by, own.overlap) == ("B cells", "name", 5)
    assert own.p < 1e-3
    assert "sets: of B" in set(pd.read_csv(out / "gene_sets.tsv", sep="\t").gene_set)
    page = (out / "README.md").read_text()
    for file in ("heatmap.svg", "attention.svg", "deletion.svg"):
        assert file in page
        assert (out / file).read_text().rstrip().endswith("</svg>")
    assert all(line in page for line in about["verdicts"])
    found = {one["method"]: one for one in about["markers_found"]}
    assert (found["expression"]["own"], found["expression"]["named"]) == (2, 2)
    assert "| mean bin, less that of the other types (control: no model) | 2 of 2 |" in page


@pytest.fixture
def query(toy, tmp_path):
    cells = toy.draw_cells(18, seed=5)
    path = tmp_path / "query.h5ad"
    cells.write_h5ad(path)
    return path


@pytest.mark.slow
def test_the_same_seed_gives_the_same_explanation(query, toy_run, tmp_path, settings):
    options = {
        "label_key": "",
        "reading": AUTOMATIC,
        "settings": settings,
        "device": "cpu",
    }
    for name in ("one", "two"):
        explain_file(query, toy_run.model, tmp_path / name, **options)
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_the_command_explains_the_labels_of_a_column(query, toy_run, tmp_path):
    out = tmp_path / "out"
    few = ["--cells-per-type", "4", "--steps", "4", "--random-draws", "1"]
    words = ["explain", toy_run.model, query, "--out", out, "--label-key", "cell_type", *few]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    about = json.loads((out / "explanation.json").read_text())
    assert about["cells"] == {"B cell": 4, "NK cell": 4, "T cell": 4}
    assert about["labels_from"] == "labels of the file"
    assert "integrated gradients" in result.stdout
    assert about["warnings"] == {}


def test_the_command_warns_of_few_genes_and_of_labels(toy, toy_run, tmp_path):
    cells = toy.draw_cells(18, seed=5)[:, :35].copy()
    cells.obs["cell_type"] = cells.obs.cell_type.replace({"B cell": "b cell"})
    cells.write_h5ad(tmp_path / "panel.h5ad")
    out = tmp_path / "out"
    few = ["--cells-per-type", "4", "--steps", "4", "--random-draws", "1"]
    words = ["explain", toy_run.model, tmp_path / "panel.h5ad", "--out", out, *few]
    result = CliRunner().invoke(app, [str(word) for word in (*words, "--label-key", "cell_type")])
    assert result.exit_code == 0, result.output
    about = json.loads((out / "explanation.json").read_text())
    assert set(about["warnings"]) == {"few_genes", "spelled_otherwise"}
    assert "few_genes" in result.stdout
    assert "- only 35 of the 80 genes that the model uses" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--label-key": "leiden"}, "has no column obs['leiden']"),
        ({"--markers": "nowhere.tsv"}, "nowhere.tsv"),
        ({"--marker-types": "types.tsv"}, "no list is given"),
    ],
)
def test_the_command_refuses_in_one_line(query, toy_run, tmp_path, changes, message):
    out = tmp_path / "out"
    words = ["explain", toy_run.model, query, "--out", out]
    words += [word for pair in changes.items() for word in pair]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 1
    assert message in result.stderr
    assert not out.exists()


def test_a_folder_that_is_no_explanation_is_not_replaced(query, toy_run, tmp_path):
    result = CliRunner().invoke(
        app, ["explain", str(toy_run.model), str(query), "--out", str(tmp_path)]
    )
    assert result.exit_code == 1
    assert "exists but was not written by scbert explain" in result.stderr
    assert query.exists()


def test_a_pretrained_model_is_refused(query, toy_run, tmp_path):
    words = ["explain", str(toy_run.pretrained), str(query), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "is pretrained only and knows no cell types" in result.stderr


def test_cells_of_one_type_are_refused(toy, toy_run, tmp_path, settings):
    cells = toy.draw_cells(18, seed=5)
    cells[cells.obs.cell_type == "B cell"].copy().write_h5ad(tmp_path / "b.h5ad")
    options = {"label_key": "cell_type", "reading": AUTOMATIC}
    options |= {"settings": settings, "device": "cpu"}
    with pytest.raises(ValueError, match="two or more cells of B cell only"):
        explain_file(*(tmp_path / "b.h5ad", toy_run.model, tmp_path / "out"), **options)


def test_the_command_takes_the_configuration_a_file_and_then_its_options(
    monkeypatch, tmp_path, config
):
    asked = []
    monkeypatch.setattr(
        "scbert.steps.explain_file.explain_file", lambda *_, settings, **__: asked.append(settings)
    )
    (tmp_path / "own.yaml").write_text("explain: {steps: 8, top_genes: 9}")
    more = (["--config", str(tmp_path / "own.yaml"), "--top-genes", "7"], [])
    for words in more:
        CliRunner().invoke(app, ["explain", "model", "cells.h5ad", "--out", "out", *words])
    changed = config.explain.model_copy(update={"steps": 8, "top_genes": 7})
    assert asked == [changed, config.explain]


def test_the_command_refuses_a_value_with_its_bound():
    words = ["explain", "model", "cells.h5ad", "--out", "out", "--steps", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "key 'explain.steps' is 1: Input should be greater than or equal to 2" in result.stderr
