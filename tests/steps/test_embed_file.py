"""embed, inspect and models: what they say must be what annotate does."""

import shutil

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse
from typer.testing import CliRunner

import scbert
from scbert.cells.how_to_read import HowToRead
from scbert.cli import app
from scbert.network.model import MeanOfGenes
from scbert.steps.annotate_file import annotate, annotate_file
from scbert.steps.embed_file import HEAD, MEAN, embed, embed_file
from scbert.steps.inspect_file import inspect_file
from scbert.steps.list_models import list_models
from scbert.training.bundle import load_finetuned, load_pretrained
from scbert.training.query_tokens import LEAST_OVERLAP
from tests.cells.test_stores import write
from tests.report.test_figures import make_comparison


@pytest.fixture
def query(toy):
    return toy.draw_cells(30, seed=5)


@pytest.fixture
def path(query, tmp_path):
    query.write_h5ad(tmp_path / "q.h5ad")
    return tmp_path / "q.h5ad"


def invoke(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200"})


def test_embed_by_a_finetuned_model_is_what_annotate_stores(query, toy_run):
    found = embed(query, toy_run.model)
    assert np.allclose(found.obsm["X_scbert"], annotate(query, toy_run.model).obsm["X_scbert"])
    assert found.uns["scbert_embedding"]["vector"] == HEAD
    assert list(found.obs.columns) == ["cell_type"]
    assert scbert.embed is embed


def test_embed_by_a_pretrained_model_is_the_mean_over_tokens(query, toy_run):
    """Computed again for one cell alone, from the tokens that a person can derive."""
    bundle = load_pretrained(toy_run.pretrained)
    found = embed(query, bundle)
    counts = query.X[3].toarray().ravel()
    normalization = bundle.config["normalization"]
    bins = np.minimum(np.log2(1 + counts / counts.sum() * normalization["target_sum"]), 5).astype(
        int
    )
    order = {name: row for row, name in enumerate(bundle.genes.symbol)}
    genes = torch.tensor([[order[query.var_names[column]] for column in np.flatnonzero(bins)]])
    tokens = torch.from_numpy(bins[bins > 0])[None]
    with torch.no_grad():
        x = bundle.network.eval().encoder(genes, tokens, torch.ones_like(genes, dtype=torch.bool))
    assert np.allclose(found.obsm["X_scbert"][3], x[0].mean(dim=0).numpy(), atol=1e-5)
    assert found.uns["scbert_embedding"]["vector"] == MEAN


def test_mean_of_genes_leaves_padding_out_and_bears_a_cell_without_tokens():
    class Twice(torch.nn.Module):
        norm = torch.nn.LayerNorm(3)

        def forward(self, genes, tokens, real):
            return 2.0 * genes[..., None].expand(*genes.shape, 3)

    real = torch.tensor([[True, True, False], [False, False, False]])
    logits, mean = MeanOfGenes(Twice())(torch.tensor([[1, 3, 9], [5, 5, 5]]), None, real)
    assert mean.tolist() == [[4, 4, 4], [0, 0, 0]]
    assert logits.shape == (2, 0)
    reads = MeanOfGenes(Twice(), torch.tensor([[1.0, 0, 0], [1, 1, 2]]))
    logits, _ = reads(torch.tensor([[1, 3, 9], [5, 5, 5]]), None, real)
    assert logits.tolist() == [[4, 16], [0, 0]]


@pytest.mark.parametrize("which", ["model", "pretrained"])
def test_embed_file_is_embed(query, path, toy_run, tmp_path, which):
    done = invoke("embed", path, "--model", getattr(toy_run, which), "--out", tmp_path / "o.h5ad")
    assert done.exit_code == 0, done.output
    expected = embed(query, getattr(toy_run, which))
    found = ad.read_h5ad(tmp_path / "o.h5ad")
    assert np.allclose(found.obsm["X_scbert"], expected.obsm["X_scbert"], atol=1e-6)
    assert found.uns["scbert_embedding"] == expected.uns["scbert_embedding"]
    assert "30 cells x 16" in done.output


def run_in(form, of_memory, of_file, cells, model, folder):
    """Annotate or embed cells in memory, or in a file of this form."""
    if form == "memory":
        return of_memory(cells, model)
    query, out = folder / "first.h5ad", folder / "out.h5ad"
    cells.write_h5ad(query)
    of_file(query if form == "h5ad" else write(cells, folder, form), model, out)
    return ad.read_h5ad(out)


@pytest.mark.parametrize("form", ["memory", "h5ad", "zarr 2"])
def test_what_was_said_of_replaced_vectors_goes_and_nothing_else(query, toy_run, tmp_path, form):
    query.uns["note"] = {"vectors": "kept"}
    named, placed = annotate(query, toy_run.model), embed(query, toy_run.pretrained)
    found = run_in(form, embed, embed_file, named, toy_run.pretrained, tmp_path)
    assert (found.obsm["X_scbert"] == placed.obsm["X_scbert"]).all()
    assert found.uns["scbert_embedding"]["vector"] == MEAN
    assert set(named.uns["scbert"]) - set(found.uns["scbert"]) == {"vectors"}
    assert found.uns["scbert"]["model_sha256"] == named.uns["scbert"]["model_sha256"]
    assert found.uns["note"] == {"vectors": "kept"}
    assert list(found.obs.columns) == list(named.obs.columns)
    assert "vectors" in named.uns["scbert"]  # the input is left alone

    found = run_in(form, annotate, annotate_file, placed, toy_run.model, tmp_path)
    assert (found.obsm["X_scbert"] == named.obsm["X_scbert"]).all()
    assert set(found.uns) == {"note", "scbert"}
    assert found.uns["scbert"]["vectors"] == "encoder"
    assert "scbert_embedding" in placed.uns


@pytest.mark.parametrize("form", ["memory", "h5ad"])
def test_what_others_wrote_under_these_names_stays(query, toy_run, tmp_path, form):
    query.uns["scbert"] = {"vectors": "of my own"}
    found = run_in(form, embed, embed_file, query, toy_run.pretrained, tmp_path)
    assert found.uns["scbert"] == {"vectors": "of my own"}
    query.uns = {"scbert_embedding": "a note"}
    found = run_in(form, annotate, annotate_file, query, toy_run.model, tmp_path)
    assert found.uns["scbert_embedding"] == "a note"


def test_embed_refuses_what_it_cannot_use(path, toy_run, tmp_path):
    done = invoke("embed", path, "--model", toy_run.model, "--out", tmp_path / "o.csv")
    assert done.exit_code == 1
    with pytest.raises(ValueError, match=r"no matrix 'raw\.X'"):
        embed_file(path, toy_run.model, tmp_path / "o.h5ad", reading=HowToRead("raw.X"))
    assert [file.name for file in tmp_path.iterdir()] == ["q.h5ad"]


def test_inspect_says_what_a_person_can_count(query, toy_run, tmp_path):
    """Of 80 genes: 3 get an older name, 2 names no one knows, 5 are left out, ids go."""
    query.var = query.var.drop(columns="gene_ids")
    names = query.var_names.tolist()
    query.var_names = [f"OLD{name}" for name in names[:3]] + ["WHAT1", "WHAT2"] + names[5:]
    query[:, :75].copy().write_h5ad(tmp_path / "q.h5ad")
    found = inspect_file(tmp_path / "q.h5ad", toy_run.model)
    rows = dict(found.rows)
    assert found.refusal == ""
    assert rows["cells"] == "30"
    assert rows["matrix"] == "X, 75 genes"
    assert rows["scale"] == "raw counts"
    assert rows["genes known by symbol"] == "70"
    assert rows["genes known by an older name or alias"] == "3"
    assert rows["genes unknown to the model"] == "2 (WHAT1, WHAT2)"
    assert rows["vocabulary genes not in the file"].startswith("7 (GENE")
    assert rows["genes that the model uses"].startswith("73 of 80 (91.2%;")
    counts = query.X[:, :75].sum()
    share = 1 - query.X[:, 3:5].sum() / counts
    assert rows["share of the counts on known genes"] == f"{share:.1%}"
    assert rows["cells without any token"] == "0"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda cells: setattr(cells, "X", -cells.X), "negative values"),
        (lambda cells: setattr(cells, "X", cells.X * 1.37), "neither counts|not integers"),
        (
            lambda cells: setattr(cells, "var_names", [f"M{n}" for n in range(80)]),
            "only 0 of the 80 genes",
        ),
        (lambda cells: setattr(cells, "obs_names", ["a"] * 30), "1 cell ids that occur more"),
        (lambda cells: None, ""),
    ],
)
@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_inspect_refuses_exactly_what_annotate_refuses(query, toy_run, tmp_path, change, reason):
    query.var = query.var.drop(columns="gene_ids")
    change(query)
    query.write_h5ad(tmp_path / "q.h5ad")
    found = inspect_file(tmp_path / "q.h5ad", toy_run.model)
    done = invoke("inspect", tmp_path / "q.h5ad", "--model", toy_run.model)
    assert done.exit_code == (1 if reason else 0)
    if not reason:
        annotate_file(tmp_path / "q.h5ad", toy_run.model, tmp_path / "o.h5ad")
        assert "annotate would accept this" in done.output
        return
    with pytest.raises(ValueError, match=reason) as refused:
        annotate_file(tmp_path / "q.h5ad", toy_run.model, tmp_path / "o.h5ad")
    assert found.refusal == str(refused.value)
    assert "annotate would refuse this" in done.output


def test_inspect_without_a_model_and_with_a_pretrained_one(path, toy_run):
    alone = inspect_file(path, None)
    assert dict(alone.rows)["scale"] == "raw counts"
    assert alone.refusal == ""
    assert "pretrained only" in inspect_file(path, toy_run.pretrained).refusal
    with pytest.raises(FileNotFoundError):
        inspect_file(path.with_name("nowhere.h5ad"), None)


def test_inspect_reads_a_file_stored_gene_by_gene_and_leaves_nothing(query, toy_run, tmp_path):
    query.X = sparse.csc_matrix(query.X)
    query.write_h5ad(tmp_path / "q.h5ad")
    assert inspect_file(tmp_path / "q.h5ad", toy_run.model).refusal == ""
    assert [file.name for file in tmp_path.iterdir()] == ["q.h5ad"]


def test_models_lists_good_ones_and_why_others_are_not(toy_run, tmp_path):
    for name in ("good", "tampered"):
        shutil.copytree(toy_run.model, tmp_path / name)
    shutil.copytree(toy_run.pretrained, tmp_path / "deep/pretrained")
    comparison = make_comparison()
    comparison.write(tmp_path / "good/comparison.json")
    (tmp_path / "tampered/labels.json").write_text("[]")
    pretrained, good, tampered = list_models(tmp_path)
    bundle = load_finetuned(toy_run.model)
    assert (good.kind, good.dataset, good.sequence) == ("finetuned", "toy", "expressed_genes")
    assert good.types == ("B cell", "NK cell", "T cell")
    assert good.genes == "80 of 80"
    assert good.scores == "accuracy 0.737, macro F1 0.687"
    assert bundle.sha256.startswith(good.sha256)
    assert good.calibration.startswith("on ")
    assert pretrained.kind == "pretrained"
    assert (pretrained.types, pretrained.scores) == ((), "")
    assert "labels.json" in tampered.problem
    done = invoke("models", tmp_path)
    assert done.exit_code == 0
    assert "B cell, NK cell, T cell" in done.output
    assert "cannot be used" in done.output


def test_models_of_a_folder_without_any(tmp_path):
    with pytest.raises(ValueError, match="there is no model at or below"):
        list_models(tmp_path)
    assert invoke("models", tmp_path / "nowhere").exit_code == 1


def test_embed_by_a_pretrained_model_needs_as_many_genes_as_annotate(query, toy_run, config):
    """A mean over three genes of eighty would be a vector of what was measured, not of the cell."""
    assert config.annotate.min_gene_overlap == LEAST_OVERLAP
    known = load_pretrained(toy_run.pretrained).genes.symbol
    few = query[:, query.var_names.isin(known[:3])].copy()
    few = few[np.asarray(few.X.sum(axis=1)).ravel() > 0].copy()
    with pytest.raises(
        ValueError, match=r"only 3 of the 80 genes that the model uses \(3.8%\), 5%"
    ):
        embed(few, toy_run.pretrained)
