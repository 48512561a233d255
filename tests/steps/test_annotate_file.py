import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.io import mmwrite

import scbert
from scbert.cells import result as result_module
from scbert.cells.quality import cell_sums
from scbert.steps import annotate_file as step
from scbert.steps.annotate_file import annotate, annotate_file
from scbert.steps.annotate_test_cells import annotate_test_cells
from scbert.steps.embed_file import embed_file
from scbert.training.bundle import load_pretrained

COLUMNS = {
    "scbert_label",
    "scbert_label_logistic_regression",
    "scbert_label_discriminant",
    "scbert_label_encoder",
    "scbert_agreement",
    "scbert_label_ontology_term_id",
    "scbert_confidence",
    "scbert_is_unknown",
    "scbert_novelty_score",
}


@pytest.fixture
def query(toy):
    """45 new cells; gene_ids are left out, so genes are known by symbol."""
    cells = toy.draw_cells(45, seed=5)
    cells.var = cells.var.drop(columns="gene_ids")
    return cells


@pytest.fixture
def expected(query, model):
    return annotate(query, model)


def assert_same_calls(found, expected, tolerance=1e-4):
    assert list(found.obs.scbert_label) == list(expected.obs.scbert_label)
    difference = found.obsm["scbert_probabilities"] - expected.obsm["scbert_probabilities"]
    assert np.abs(difference.to_numpy()).max() < tolerance


def log1p(counts, target_sum, base):
    sums = np.asarray(counts.sum(axis=1))
    values = np.log1p(counts.toarray() / sums * target_sum) / np.log(base)
    return sparse.csr_matrix(values.astype(np.float32))


def test_annotate_names_the_planted_types(expected):
    """A third of the cells are of each type, so a guess is right in 0.33 of them."""
    assert (expected.obs.scbert_label.astype(str) == expected.obs.cell_type).mean() > 0.85


def test_the_result_has_these_columns(query, expected, model):
    assert set(expected.obs.columns) == {"cell_type"} | COLUMNS
    probabilities = expected.obsm["scbert_probabilities"]
    assert list(probabilities.columns) == ["B cell", "NK cell", "T cell"]
    assert list(probabilities.index) == list(query.obs_names)
    assert np.abs(probabilities.sum(axis=1) - 1).max() < 1e-6
    obs = expected.obs
    assert (obs.scbert_label.astype(str) == probabilities.idxmax(axis=1)).all()
    assert (obs.scbert_confidence == probabilities.max(axis=1)).all()
    threshold = model.calibration["novelty_threshold"]
    assert (obs.scbert_is_unknown == (obs.scbert_novelty_score > threshold)).all()
    terms = {"B cell": "CL:0000236", "NK cell": "unknown", "T cell": "CL:0000084"}
    assert list(obs.scbert_label_ontology_term_id) == [terms[name] for name in obs.scbert_label]
    assert expected.obsm["X_scbert"].shape == (45, 16)
    assert (expected.X != query.X).nnz == 0


def test_labels_with_parents_get_both_levels(query, model, tmp_path):
    """T and NK cells have one parent; nobody is sure enough of a child, everybody of a parent."""
    parents = {"B cell": "B cell", "NK cell": "lymphocyte", "T cell": "lymphocyte"}
    labels = [entry | {"parent": parents[entry["name"]]} for entry in model.labels]
    levels = {"error_rate": 0.1, "child_threshold": 2.0, "parent_threshold": 0.0}
    calibration = model.calibration | {"levels": levels}
    result = annotate(query, replace(model, labels=labels, calibration=calibration))
    result.write_h5ad(tmp_path / "levels.h5ad")
    obs = ad.read_h5ad(tmp_path / "levels.h5ad").obs
    probabilities = result.obsm["scbert_probabilities"]
    lymphocyte = probabilities["NK cell"] + probabilities["T cell"]
    expected = np.where(lymphocyte > 0.5, "lymphocyte", "B cell")
    assert list(obs.scbert_parent_label) == list(obs.scbert_best_label) == list(expected)
    assert np.allclose(obs.scbert_parent_confidence, np.maximum(lymphocyte, 1 - lymphocyte))


def test_confidence_is_calibrated(query, model):
    """Twice the temperature is the square root of each probability, made to sum to 1."""
    once, twice = (
        annotate(query, replace(model, calibration=model.calibration | {"temperature": t}))
        .obsm["scbert_probabilities"]
        .to_numpy()
        for t in (5.0, 10.0)  # the toy is easy, and its logistic regression sure of itself
    )
    roots = np.sqrt(once)
    assert np.abs(twice - roots / roots.sum(axis=1, keepdims=True)).max() < 1e-5
    assert np.abs(twice - once).max() > 0.05


def test_annotate_knows_genes_by_their_older_names(query, model, expected):
    """The bundle alone has them: the table of genes is not needed again."""
    query.var_names = [f"OLD{name}" for name in query.var_names]
    found = annotate(query, model)
    assert_same_calls(found, expected)
    genes = found.uns["scbert"]["genes"]
    assert genes["matched_by_alias"] == genes["matched"] == len(model.genes)


def test_uns_says_what_was_done(expected, model):
    found = expected.uns["scbert"]
    assert found["version"] == scbert.__version__
    assert found["model_sha256"] == model.sha256
    assert found["labels"] == ["B cell", "NK cell", "T cell"]
    assert (found["matrix"], found["scale"]) == ("X", "raw counts")
    assert found["genes"]["matched_by_symbol"] == found["genes"]["matched"] == len(model.genes)


def test_a_result_survives_the_file(expected, tmp_path):
    expected.write_h5ad(tmp_path / "result.h5ad")
    found = ad.read_h5ad(tmp_path / "result.h5ad")
    assert list(found.uns["scbert"].pop("labels")) == expected.uns["scbert"]["labels"]
    kept = {key: value for key, value in expected.uns["scbert"].items() if key != "labels"}
    assert found.uns["scbert"] == kept
    pd.testing.assert_frame_equal(
        found.obsm["scbert_probabilities"], expected.obsm["scbert_probabilities"]
    )
    assert set(found.obs.columns) == {"cell_type"} | COLUMNS
    assert found.obs.scbert_is_unknown.dtype == bool
    assert_same_calls(found, expected, 1e-12)


@pytest.mark.parametrize("base", [np.e, 2, 10])
def test_log_normalised_expression_gives_the_same_calls(query, expected, model, base):
    logged = ad.AnnData(log1p(query.X, 1e4, base), obs=query.obs, var=query.var)
    found = annotate(logged, model)
    assert "log1p" in found.uns["scbert"]["scale"]
    assert_same_calls(found, expected)


def test_expected_counts_are_taken_if_they_are_called_so(query, expected, model):
    """Reads that fit two genes are divided; a fraction of 0.001 of a read moves no bin."""
    estimated = query.copy()
    estimated.X = estimated.X + (estimated.X > 0).astype(np.float32) * np.float32(0.001)
    with pytest.raises(ValueError, match="say that the scale is expected_counts"):
        annotate(estimated, model)
    found = annotate(estimated, model, scale="expected_counts")
    assert found.uns["scbert"]["scale"] == "expected counts"
    assert (found.obs.scbert_label == expected.obs.scbert_label).all()
    with pytest.raises(ValueError, match="said to hold log1p, but it holds raw counts"):
        annotate(query, model, scale="log1p")


@pytest.mark.parametrize("place", ["layers/counts", "raw.X", "layers/mine"])
def test_counts_are_found_wherever_they_stand(query, expected, model, place):
    scaled = ad.AnnData(np.full(query.shape, -1.5), obs=query.obs, var=query.var)
    if place == "raw.X":
        scaled.raw = query
    else:
        scaled.layers[place.removeprefix("layers/")] = query.X
    choice = "layers/mine" if place == "layers/mine" else "auto"
    found = annotate(scaled, model, matrix=choice)
    assert found.uns["scbert"]["matrix"] == place
    assert_same_calls(found, expected, 1e-12)


@pytest.mark.parametrize("where", ["index", "versions", "column"])
def test_ensembl_ids_give_the_same_calls(toy, query, expected, model, where):
    renamed = query.copy()
    if where == "column":
        renamed.var["gene_ids"] = toy.ensembl
        renamed.var_names = [f"probe{n}" for n in range(query.n_vars)]
    else:
        end = ".7" if where == "versions" else ""
        renamed.var_names = [gene + end for gene in toy.ensembl]
    found = annotate(renamed, model)
    assert found.uns["scbert"]["genes"]["matched_by_id"] == len(model.genes)
    assert_same_calls(found, expected, 1e-12)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csc_matrix, sparse.csr_array, np.matrix])
def test_every_kind_of_matrix_gives_the_same_calls(query, expected, model, kind):
    counts = query.X.toarray()
    given = ad.AnnData(np.asarray(counts) if kind is np.matrix else kind(counts), query.obs)
    given.var_names = query.var_names
    given.X = given.X.astype(np.float64) if kind is np.matrix else given.X
    assert_same_calls(annotate(given, model), expected, 1e-12)


def test_genes_in_another_order_or_unknown_to_the_model(query, expected, model, toy):
    """A silent gene that the model does not know changes neither library nor tokens."""
    order = np.random.default_rng(0).permutation(query.n_vars)
    assert_same_calls(annotate(query[:, order], model), expected, 1e-6)
    more = ad.concat(
        [query, ad.AnnData(np.zeros((45, 1)), query.obs, pd.DataFrame(index=["NOVEL1"]))],
        axis=1,
        merge="first",
    )
    assert_same_calls(annotate(more, model), expected, 1e-6)


def test_a_library_size_replaces_the_sum_over_the_matrix(query, expected, model):
    """Half the genes: with all counts of each cell given, the others' tokens stay the same."""
    query.obs["n_counts"] = np.asarray(query.X.sum(axis=1)).ravel()
    whole = annotate(query, model, library_size_key="n_counts")
    assert_same_calls(whole, expected, 1e-12)
    half = query[:, : query.n_vars // 2].copy()
    given = annotate(half, model, library_size_key="n_counts")
    summed = annotate(half, model)
    assert np.abs(given.obsm["X_scbert"] - summed.obsm["X_scbert"]).max() > 1e-3


def test_a_library_size_that_the_logged_values_contradict_is_refused(query, expected, model):
    logged = ad.AnnData(log1p(query.X, 1e4, np.e), obs=query.obs, var=query.var)
    logged.obs["n_counts"] = cell_sums(query.X)
    found = annotate(logged, model, library_size_key="n_counts")
    assert_same_calls(found, expected)
    logged.obs["n_counts"] = 1.0
    with pytest.raises(ValueError, match=r"is 1 in a cell that has .* counts, as its values show"):
        annotate(logged, model, library_size_key="n_counts")


def test_the_order_and_company_of_cells_do_not_matter(query, expected, model):
    order = np.random.default_rng(1).permutation(query.n_obs)
    assert_same_calls(annotate(query[order], model), expected[order], 1e-6)
    alone = annotate(query[7:8], model)
    assert_same_calls(alone, expected[7:8], 1e-6)


@pytest.mark.parametrize("tokens_per_batch", [1, 100, 100_000])
def test_the_size_of_batches_does_not_matter(query, expected, model, tokens_per_batch):
    config = model.config | {
        "annotate": model.config["annotate"] | {"tokens_per_batch": tokens_per_batch}
    }
    found = annotate(query, replace(model, config=config))
    assert_same_calls(found, expected, 1e-6)
    assert np.abs(found.obsm["X_scbert"] - expected.obsm["X_scbert"]).max() < 1e-4


def test_a_cell_that_expresses_no_known_gene_is_called_without_harm(query, expected, model):
    """It has no token: its probabilities are finite, the same for each such cell."""
    more = ad.concat(
        [query, ad.AnnData(np.ones((45, 1)), query.obs, pd.DataFrame(index=["NOVEL1"]))],
        axis=1,
        merge="first",
    )
    reference = annotate(more, model)
    counts = more.X.toarray()
    counts[3, :-1] = counts[20, :-1] = 0  # only NOVEL1
    counts[30] = 0  # nothing at all
    found = annotate(ad.AnnData(counts, more.obs, more.var), model)
    probabilities = found.obsm["scbert_probabilities"].to_numpy()
    assert np.isfinite(probabilities).all()
    assert np.isfinite(found.obsm["X_scbert"]).all()
    assert np.abs(probabilities[[3, 20]] - probabilities[30]).max() < 1e-6
    others = np.setdiff1d(np.arange(45), [3, 20, 30])
    assert_same_calls(found[others], reference[others], 1e-6)


def test_clusters_get_the_label_of_most_of_their_cells(query, model, expected):
    """Clusters by called type, but one cell of each is moved to the next cluster."""
    clusters = expected.obs.scbert_label.astype(str).to_numpy()
    moved = [int(np.flatnonzero(clusters == name)[0]) for name in ("B cell", "NK cell", "T cell")]
    clusters[moved] = np.roll(clusters[moved], 1)
    query.obs["leiden"] = pd.Categorical(clusters)
    found = annotate(query, model, cluster_key="leiden")
    assert (found.obs.scbert_majority_voting.astype(str) == clusters).all()
    assert (found.obs.scbert_label == expected.obs.scbert_label).all()
    again = annotate(found, model)  # without clusters: the vote of before would be another model's
    assert "scbert_majority_voting" not in again.obs


def test_cells_without_a_cluster_get_no_vote(query, model, tmp_path):
    query.obs["leiden"] = pd.Categorical(["0"] * 40 + [None] * 5)
    found = annotate(query, model, cluster_key="leiden")
    assert found.obs.scbert_majority_voting.isna().sum() == 5
    found.write_h5ad(tmp_path / "found.h5ad")
    assert ad.read_h5ad(tmp_path / "found.h5ad").obs.scbert_majority_voting.isna().sum() == 5


def test_the_input_is_left_alone(query, model):
    query.layers["counts"] = query.X.copy()
    query.uns["note"] = {"kept": 1}
    kept = query.copy()
    annotate(query, model)
    assert (query.X != kept.X).nnz == 0
    pd.testing.assert_frame_equal(query.obs, kept.obs)
    pd.testing.assert_frame_equal(query.var, kept.var)
    assert query.uns == kept.uns
    assert not query.obsm.keys()


def test_names_of_types_with_a_slash_can_be_written(query, model, tmp_path):
    labels = [label | {"name": f"{label['name']}/x"} for label in model.labels]
    found = annotate(query, replace(model, labels=labels))
    assert found.obsm["scbert_probabilities"].columns[0] == "B cell|x"
    assert found.obs.scbert_label.cat.categories[0] == "B cell/x"
    found.write_h5ad(tmp_path / "found.h5ad")
    assert ad.read_h5ad(tmp_path / "found.h5ad").uns["scbert"]["labels"][0] == "B cell/x"


def test_types_that_differ_by_the_slash_alone_get_columns_of_their_own(query, model, tmp_path):
    names = ["A/B", "A|B", "A|B|"]
    labels = [label | {"name": name} for label, name in zip(model.labels, names, strict=True)]
    found = annotate(query, replace(model, labels=labels))
    found.write_h5ad(tmp_path / "found.h5ad")
    found = ad.read_h5ad(tmp_path / "found.h5ad")
    assert list(found.obsm["scbert_probabilities"].columns) == ["A|B||", "A|B", "A|B|"]
    assert list(found.uns["scbert"]["labels"]) == names


def test_a_folder_is_as_good_as_a_loaded_model(query, expected, toy_run):
    assert_same_calls(annotate(query, toy_run.model), expected, 1e-12)
    assert_same_calls(annotate(query, str(toy_run.model)), expected, 1e-12)


@pytest.mark.parametrize("kind", [str, Path])
def test_the_path_of_a_file_is_as_good_as_its_cells(query, expected, toy_run, tmp_path, kind):
    query.write_h5ad(tmp_path / "query.h5ad")
    found = annotate(kind(tmp_path / "query.h5ad"), toy_run.model)
    assert_same_calls(found, expected, 1e-12)
    vectors = scbert.embed(kind(tmp_path / "query.h5ad"), toy_run.model).obsm["X_scbert"]
    assert vectors.shape[0] == 45
    with pytest.raises(FileNotFoundError, match=r"nowhere.h5ad does not exist"):
        annotate(kind(tmp_path / "nowhere.h5ad"), toy_run.model)


def test_scbert_annotate_is_the_same_function():
    assert scbert.annotate is annotate


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'anotate'"):
        scbert.anotate  # noqa: B018  the access is the test


def test_annotate_file_writes_what_annotate_returns(query, expected, toy_run, tmp_path):
    query.write_h5ad(tmp_path / "query.h5ad")
    returned = annotate_file(tmp_path / "query.h5ad", toy_run.model, tmp_path / "new/out.h5ad")
    written = ad.read_h5ad(tmp_path / "new/out.h5ad")
    assert_same_calls(written, expected, 1e-12)
    assert_same_calls(returned, expected, 1e-12)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.h5ad"]


def test_csv_of_counts_is_read(query, expected, toy_run, tmp_path):
    query.to_df().to_csv(tmp_path / "query.csv")
    found = annotate_file(tmp_path / "query.csv", toy_run.model, tmp_path / "out.h5ad")
    assert_same_calls(found, expected, 1e-12)


def test_a_folder_of_10x_is_read(query, expected, toy_run, tmp_path):
    folder = tmp_path / "filtered_feature_bc_matrix"
    folder.mkdir()
    mmwrite(folder / "matrix.mtx", query.X.T, field="integer")
    (folder / "barcodes.tsv").write_text("\n".join(query.obs_names) + "\n")
    (folder / "genes.tsv").write_text("".join(f"{name}\t{name}\n" for name in query.var_names))
    found = annotate_file(folder, toy_run.model, tmp_path / "out.h5ad")
    assert_same_calls(found, expected, 1e-12)


def test_test_cells_are_annotated_without_their_labels(toy_run, tmp_path):
    out = tmp_path / "predictions.h5ad"
    annotate_test_cells(toy_run.counts, toy_run.split, toy_run.model, out, "cpu")
    found = ad.read_h5ad(out)
    split = pd.read_csv(toy_run.split, sep="\t", index_col="cell")
    assert set(found.obs_names) == set(split.index[split.part == "test"])
    assert set(found.obs.columns) == {"library_size", "n_genes"} | COLUMNS
    labels = found.obs.scbert_label.astype(str)
    assert (labels == split.cell_type[found.obs_names]).mean() > 0.85


def test_a_pretrained_model_is_refused(query, toy_run):
    with pytest.raises(ValueError, match=r"pretrained is pretrained only.*Fine-tune it first"):
        annotate(query, toy_run.pretrained)
    with pytest.raises(ValueError, match=r"^the model is pretrained only"):
        annotate(query, load_pretrained(toy_run.pretrained))


def broken(query, how):  # noqa: C901  one line for each way
    if how == "nan":
        query.X.data[0] = np.nan
    elif how == "negative":
        query.X.data[0] = -1.0
    elif how == "scaled":
        query.X.data *= 1.37
    elif how == "zeros":
        query.X = sparse.csr_matrix(query.shape, dtype=np.float32)
    elif how == "genes":
        query.var_names = ["GENE1", *query.var_names[:-1]]
    elif how == "cells":
        query.obs_names = ["cell1", *query.obs_names[:-1]]
    elif how == "overlap":
        query.var_names = [f"MOUSE{n}" for n in range(query.n_vars)]
    elif how == "few":
        query.var_names = [f"MOUSE{n}" for n in range(query.n_vars - 3)] + [
            f"GENE{n}" for n in range(1, 4)
        ]
    elif how == "none":
        return query[:0].copy()
    return query


WAYS = [
    ("nan", "holds 1 values that are NaN or infinite"),
    ("negative", "holds negative values"),
    ("scaled", "not integers|neither counts"),
    ("zeros", "holds only zeros"),
    ("genes", r"1 gene names that occur more than once \(GENE1\)"),
    ("cells", r"1 cell ids that occur more than once \(cell1\)"),
    ("overlap", r"has only 0 of the 80 genes .* \(0\.0%\).*Use human gene symbols or Ensembl ids"),
    (
        "few",
        r"has only 3 of the 80 genes .* \(3\.8%\), 5% are .*own 80 genes the model knows 3, not M",
    ),
    ("none", "has no cells"),
]


@pytest.mark.parametrize(("how", "message"), WAYS)
def test_cells_that_cannot_be_used_are_refused(query, model, how, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        annotate(broken(query, how), model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cluster_key": "leiden"}, r"has no column obs\['leiden'\]; it has cell_type"),
        ({"library_size_key": "depth"}, r"has no column obs\['depth'\]; it has cell_type"),
        ({"library_size_key": "cell_type"}, r"obs\['cell_type'\] of adata is not a positive"),
        ({"matrix": "layers/counts"}, "has no matrix 'layers/counts'; it has X"),
    ],
)
def test_wrong_options_are_refused(query, model, options, message):
    with pytest.raises(ValueError, match=message):
        annotate(query, model, **options)


def test_names_of_columns_may_be_numbers(query, expected, model):
    query.obs = query.obs.assign(clusters=list("abc") * 15).set_axis([0, "clusters"], axis=1)
    found = annotate(query, model, cluster_key="clusters")
    assert_same_calls(found, expected, 1e-12)
    assert list(found.obs.columns[:2]) == [0, "clusters"]
    with pytest.raises(ValueError, match=r"no column obs\['leiden'\]; it has 0, clusters"):
        annotate(query, model, cluster_key="leiden")


@pytest.mark.parametrize("option", ["cluster_key", "library_size_key"])
def test_of_two_columns_with_one_name_none_is_taken(query, expected, model, option):
    query.obs["total_counts"] = 1e6
    query.obs = pd.concat([query.obs, query.obs[["total_counts"]]], axis=1)
    with pytest.raises(ValueError, match=r"adata has 2 columns obs\['total_counts'\], .* Keep one"):
        annotate(query, model, **{option: "total_counts"})
    assert_same_calls(annotate(query, model), expected, 1e-12)
    query.X = sparse.csr_matrix(sparse.diags_array(np.linspace(0.01, 0.02, 45)) @ query.X).log1p()
    warnings = annotate(query, model).uns["scbert"]["warnings"]
    assert "317 was taken, since the file has 80 genes only" in warnings["mixed_sums"]


def test_two_columns_of_names_of_genes_are_refused(query, model):
    query.var["symbol"] = query.var_names
    query.var = pd.concat([query.var, query.var], axis=1)
    with pytest.raises(ValueError, match=r"var has 2 columns 'symbol', .* Keep one of each name"):
        annotate(query, model)


def test_nothing_is_left_half_written(query, toy_run, tmp_path, monkeypatch):
    query.write_h5ad(tmp_path / "query.h5ad")
    out = tmp_path / "out.h5ad"
    with pytest.raises(ValueError, match="no column"):
        annotate_file(tmp_path / "query.h5ad", toy_run.model, out, cluster_key="leiden")

    def full(path, new, stale):
        raise OSError("disk full")

    monkeypatch.setattr(result_module, "add", full)
    with pytest.raises(OSError, match="disk full"):
        annotate_file(tmp_path / "query.h5ad", toy_run.model, out)
    assert [path.name for path in tmp_path.iterdir()] == ["query.h5ad"]


def test_a_file_that_is_no_result_is_not_replaced(query, toy_run, tmp_path):
    path, out = tmp_path / "query.h5ad", tmp_path / "out.h5ad"
    query.write_h5ad(path)
    noted = query.copy()
    noted.uns["scbert"] = {"my_notes": "of my own"}
    noted.write_h5ad(tmp_path / "noted.h5ad")
    for content in (path.read_bytes(), b"a note", (tmp_path / "noted.h5ad").read_bytes()):
        out.write_bytes(content)
        for make in (annotate_file, embed_file):
            with pytest.raises(ValueError, match=r"out.h5ad exists already and was not written by"):
                make(path, toy_run.model, out)
        assert out.read_bytes() == content
    out.write_bytes(b"")
    embed_file(path, toy_run.model, out)
    annotate_file(path, toy_run.model, out)
    annotate_file(path, toy_run.model, out)
    assert ad.read_h5ad(path).uns.keys() == set()


@pytest.mark.parametrize("free", [1_000, 2_000_000])
def test_a_full_disk_is_told_before_it_is_written_to(query, toy_run, tmp_path, monkeypatch, free):
    """The copy of the query does not fit, or what is added to it."""
    path, out = tmp_path / "query.h5ad", tmp_path / "out.h5ad"
    query.write_h5ad(path)
    sizes = iter([free, 1_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=next(sizes)))
    with pytest.raises(ValueError, match=r"h5ad\S* needs about .* MB more, but its disk has 0 MB"):
        annotate_file(path, toy_run.model, out)
    assert [file.name for file in tmp_path.iterdir()] == ["query.h5ad"]


def test_columns_that_would_lie_in_one_of_the_results_are_refused(query, model):
    query.obs["scbert_label/x"] = 1
    with pytest.raises(ValueError, match=r"has the column obs\['scbert_label/x'\], .* Rename it"):
        annotate(query, model)


def test_a_damaged_model_names_no_cell(query, toy_run, tmp_path):
    folder = Path(shutil.copytree(toy_run.model, tmp_path / "model"))
    (folder / "labels.json").write_text((folder / "labels.json").read_text().replace("NK", "KN"))
    with pytest.raises(ValueError, match=r"'labels\.json' is missing or is not what was saved"):
        step.annotate(query, folder)


def test_what_an_expert_said_before_does_not_stay_beside_new_labels(query, toy_run, mean_run):
    before = annotate(query, toy_run.model)
    assert "scbert_label_encoder" in before.obs
    again = annotate(before, mean_run.model)
    assert "scbert_label_encoder" not in again.obs


@pytest.mark.slow
def test_annotate_imports_nothing_that_only_learning_needs():
    """It takes a second and a half to import, of ten that a small file takes."""
    code = "import sys, scbert.steps.annotate_file; sys.exit(len(LEARNING & set(sys.modules)))"
    learning = {"sklearn", "scipy.stats", "scipy.optimize"}
    program = f"LEARNING = {learning}; {code}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
