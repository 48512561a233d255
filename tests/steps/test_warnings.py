"""Warnings of a doubtful result are the same in the log, at the end and in the result."""

import logging
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from typer.testing import CliRunner

from scbert.cells.cautions import Caution, by_code
from scbert.cells.how_to_read import AUTOMATIC
from scbert.cells.query import query_in_memory
from scbert.cli import app
from scbert.files import read_json
from scbert.steps.annotate_file import annotate
from scbert.steps.embed_file import embed
from scbert.steps.evaluate_file import evaluate_file
from scbert.steps.inspect_file import inspect_file
from scbert.training.bundle import load_finetuned
from scbert.training.query_tokens import tokens_for


@pytest.fixture
def panel(toy):
    """A third of the genes, divided by a size factor of each cell and logged."""
    cells = toy.draw_cells(45, seed=5)[:, ::3].copy()
    factors = np.random.default_rng(0).uniform(0.5, 2.0, 45)
    cells.X = sparse.csr_matrix(np.log1p(cells.X.toarray() / factors[:, None]), dtype=np.float32)
    return cells


@pytest.fixture
def path(panel, tmp_path):
    panel.write_h5ad(tmp_path / "panel.h5ad")
    return tmp_path / "panel.h5ad"


@pytest.fixture
def invoke():
    """Run a command, and put the logging back that it starts."""
    level = logging.getLogger("scbert").level
    yield lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments])
    logging.getLogger("scbert").setLevel(level)
    logging.captureWarnings(capture=False)


def test_a_caution_has_a_code_a_finding_and_advice():
    caution = Caution("few", "only 3 of 9.", "Give more.")
    assert by_code([caution]) == {"few": "only 3 of 9. Give more."}


def test_annotate_warns_in_the_log_and_in_uns(panel, toy_run, caplog, tmp_path):
    found = annotate(panel, toy_run.model)
    warnings = found.uns["scbert"]["warnings"]
    assert {"few_genes", "unknown_sum"} <= set(warnings)
    assert "only 27 of the 80 genes that the model uses (33.8%)" in warnings["few_genes"]
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [f"adata: {text}" for text in warnings.values()]
    found.write_h5ad(tmp_path / "out.h5ad")
    assert ad.read_h5ad(tmp_path / "out.h5ad").uns["scbert"]["warnings"] == warnings


def test_good_cells_give_no_warning(toy, toy_run, caplog):
    found = annotate(toy.draw_cells(45, seed=5), toy_run.model)
    assert set(found.uns["scbert"]["warnings"]) <= {"many_unknown"}


def test_the_other_doors_warn_of_the_same(panel, path, toy_run, tmp_path):
    warnings = annotate(panel, toy_run.model).uns["scbert"]["warnings"]
    of_cells = {code: text for code, text in warnings.items() if code != "many_unknown"}
    assert embed(panel, toy_run.model).uns["scbert_embedding"]["warnings"] == of_cells
    assert by_code(inspect_file(path, toy_run.model).cautions) == of_cells
    unknown_sum = by_code(inspect_file(path, None).cautions)["unknown_sum"]
    assert "10,000 was taken" in unknown_sum


@pytest.mark.parametrize("command", ["annotate", "embed", "inspect"])
def test_commands_show_the_warnings_at_the_end(invoke, path, toy_run, tmp_path, command):
    out = [] if command == "inspect" else ["--out", tmp_path / "out.h5ad"]
    result = invoke(command, path, "--model", toy_run.model, *out)
    assert result.exit_code == 0
    assert "few_genes" in result.stdout
    assert "unknown_sum" in result.stdout


def test_more_unknown_cells_than_expected_are_told(toy, toy_run):
    model = load_finetuned(toy_run.model)
    strict = replace(model, calibration=model.calibration | {"novelty_threshold": -1e9})
    warnings = annotate(toy.draw_cells(45, seed=5), strict).uns["scbert"]["warnings"]
    assert "100.0% of the 45 cells are called unknown" in warnings["many_unknown"]
    assert "5% are expected" in warnings["many_unknown"]
    assert "filled with zeros when samples were joined" in warnings["many_unknown"]
    lenient = replace(model, calibration=model.calibration | {"novelty_threshold": 1e9})
    assert not annotate(toy.draw_cells(45, seed=5), lenient).uns["scbert"]["warnings"]


def test_genes_that_the_model_does_not_know_are_told_by_their_counts(toy, toy_run):
    cells = toy.draw_cells(45, seed=5)
    more = sparse.hstack([cells.X, sparse.csr_matrix(np.full((45, 2), 90.0))], format="csr")
    names = [*cells.var_names, "INS", "GCG"]
    larger = ad.AnnData(more.astype(np.float32), obs=cells.obs)
    larger.var_names = names
    text = annotate(larger, toy_run.model).uns["scbert"]["warnings"]["few_known_counts"]
    assert "of the counts are of genes that the model knows (not INS, GCG, ...)" in text


def test_cells_of_which_the_model_sees_nothing_are_counted(toy, toy_run, tmp_path):
    """One has no counts, one only those of a gene that the model does not know."""
    cells = toy.draw_cells(45, seed=5)
    cells.var = cells.var[[]]
    assert "empty_cells" not in annotate(cells, toy_run.model).uns["scbert"]["warnings"]
    cells.var_names = [*cells.var_names[:-1], "NOVEL1"]
    counts = cells.X.toarray()
    counts[3], counts[20, :-1], counts[20, -1] = 0, 0, 9
    cells.X = sparse.csr_matrix(counts)
    text = annotate(cells, toy_run.model).uns["scbert"]["warnings"]["empty_cells"]
    assert text.startswith("2 of the 45 cells have no gene that the model knows")
    found = embed(cells, toy_run.pretrained).uns["scbert_embedding"]["warnings"]
    assert found["empty_cells"] == text
    cells.write_h5ad(tmp_path / "q.h5ad")
    said = inspect_file(tmp_path / "q.h5ad", toy_run.model)
    assert text in [str(caution) for caution in said.cautions]
    assert dict(said.rows)["cells without any token"] == "2"


def test_the_model_s_genes_decide_on_the_matrix_and_an_error_names_the_others(toy, toy_run):
    """As in seurat-disk#123: the genes of raw are numbered."""
    cells = toy.draw_cells(45, seed=5)
    numbered = ad.AnnData(cells.X.copy(), obs=cells.obs)
    numbered.var_names = [str(number) for number in range(80)]
    cells.raw = numbered
    found = annotate(cells, toy_run.model).uns["scbert"]
    assert found["matrix"] == "X"
    assert "raw.X has 0 of the model's genes" in found["matrix_chosen"]
    with pytest.raises(ValueError, match=r"raw.X of adata has only 0 .* The file also has X: name"):
        annotate(cells, toy_run.model, matrix="raw.X")


def test_evaluate_names_labels_that_are_spelled_otherwise(toy, toy_run, tmp_path):
    cells = toy.draw_cells(45, seed=5)
    cells.obs["cell_type"] = cells.obs.cell_type.replace({"B cell": "b cell", "T cell": " T cell"})
    cells.obs.loc[cells.obs_names[:2], "cell_type"] = "nan"
    cells.write_h5ad(tmp_path / "test.h5ad")
    found = evaluate_file(
        toy_run.model, tmp_path / "test.h5ad", label_key="cell_type", out=tmp_path / "out"
    )
    assert {"missing_labels", "trimmed_labels", "spelled_otherwise"} <= set(found["warnings"])
    assert "'b cell' ('B cell' in the model)" in found["warnings"]["spelled_otherwise"]
    assert found["left_out"]["without type"] == 2
    assert set(found["novel"]["cell_types"]) == {"b cell"}
    assert "labels_not_in_model" not in found["warnings"]
    assert read_json(tmp_path / "out/evaluation.json")["warnings"] == found["warnings"]


def test_evaluate_names_labels_that_are_types_of_the_model_under_other_names(
    toy, toy_run, tmp_path, invoke
):
    cells = toy.draw_cells(45, seed=5)
    cells.obs["cell_type"] = cells.obs.cell_type.replace({"B cell": "B lymphocyte"})
    cells.write_h5ad(tmp_path / "test.h5ad")
    result = invoke("evaluate", toy_run.model, tmp_path / "test.h5ad", "--label-key", "cell_type")
    said = " ".join(result.stdout.split())
    assert "15 cells of types that the model does not know (B lymphocyte 15): " in said
    assert "labels_not_in_model" in said
    found = evaluate_file(toy_run.model, tmp_path / "test.h5ad", label_key="cell_type")
    text = found["warnings"]["labels_not_in_model"]
    assert "'B lymphocyte' (15 cells, most often named 'B cell')" in text


def test_evaluate_tells_labels_of_other_cells(toy, toy_run, tmp_path):
    cells = toy.draw_cells(45, seed=5)
    types = cells.obs.cell_type.astype(str).to_numpy()
    cells.obs["cell_type"] = np.random.default_rng(0).permutation(types)
    cells.write_h5ad(tmp_path / "test.h5ad")
    found = evaluate_file(toy_run.model, tmp_path / "test.h5ad", label_key="cell_type")
    text = found["warnings"]["labels_by_chance"]
    assert "of the 45 cells of types that it knows no better than by chance" in text
    cells.obs["cell_type"] = types
    cells.write_h5ad(tmp_path / "test.h5ad")
    found = evaluate_file(toy_run.model, tmp_path / "test.h5ad", label_key="cell_type")
    assert "labels_by_chance" not in found["warnings"]


def test_evaluate_says_nothing_of_chance_by_cells_of_one_type(toy, toy_run, tmp_path):
    """All shuffles of one label are alike, so that a perfect model is no better than they are."""
    cells = toy.draw_cells(90, seed=5)
    chosen = cells[(cells.obs.cell_type == "B cell").to_numpy()].copy()
    chosen.write_h5ad(tmp_path / "sorted.h5ad")
    found = evaluate_file(toy_run.model, tmp_path / "sorted.h5ad", label_key="cell_type")
    assert found["n_test"] == 30
    assert "labels_by_chance" not in found["warnings"]


def test_evaluate_tells_batches_that_are_spelled_otherwise_and_that_are_none(
    toy, toy_run, tmp_path
):
    cells = toy.draw_cells(45, seed=5)
    cells.obs["lab"], cells.obs["id"] = ["lab 1", "Lab 1", "lab 2"] * 15, cells.obs_names
    cells.write_h5ad(tmp_path / "q.h5ad")
    how = {"model": toy_run.model, "test": tmp_path / "q.h5ad", "label_key": "cell_type"}
    found = evaluate_file(**how, batch_key="lab")
    assert "('Lab 1' and 'lab 1')" in found["warnings"]["alike_batches"]
    assert len(found["batches"]) == 3
    with pytest.raises(ValueError, match=r"obs\['id'\] of .*q\.h5ad looks like ids of cells"):
        evaluate_file(**how, batch_key="id")


def test_a_transposed_file_is_told_and_the_advice_works(toy, toy_run):
    cells = toy.draw_cells(45, seed=5)
    turned = ad.AnnData(cells.X.T.tocsr(), cells.var[[]].copy(), cells.obs[[]].copy())
    with pytest.raises(ValueError, match=r"80 of its rows are genes that .* \(adata.T\)"):
        annotate(turned, toy_run.model)
    assert annotate(turned.T, toy_run.model).n_obs == 45


def test_store_gives_the_warnings_that_explain_passes_on(panel, toy_run):

    tokens = tokens_for(query_in_memory(panel, AUTOMATIC, "q"), load_finetuned(toy_run.model))
    assert [caution.code for caution in tokens.store()[1]] == ["few_genes", "unknown_sum"]


def test_ids_that_are_shifted_against_the_symbols_are_told(toy, toy_run, tmp_path):
    cells = toy.draw_cells(45, seed=5)
    cells.var["gene_ids"] = np.roll(cells.var.gene_ids.to_numpy(), 1)
    text = annotate(cells, toy_run.model).uns["scbert"]["warnings"]["contradicting_names"]
    assert "80 of the 80 genes" in text
    assert "(100.0%)" in text
    assert "GENE1 with the id of GENE80" in text
    cells.write_h5ad(tmp_path / "q.h5ad")
    found = evaluate_file(toy_run.model, tmp_path / "q.h5ad", label_key="cell_type")
    assert found["warnings"]["contradicting_names"] == text
    del cells.var["gene_ids"]
    assert "contradicting_names" not in annotate(cells, toy_run.model).uns["scbert"]["warnings"]
