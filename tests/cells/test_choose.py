"""auto takes the matrix by what it holds, the same in memory and from a file."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbert.cells.choose import only_genes, other_features
from scbert.cells.how_to_read import HowToRead, Wanted
from scbert.cells.matrix import Parts, parts_in_memory
from scbert.cells.query import open_query, query_in_memory
from tests.cells.test_recover import draw_counts

GENES = [f"G{number}" for number in range(400)]


def log1p(counts):
    found = sparse.csr_matrix(
        sparse.diags_array(1e4 / np.asarray(counts.sum(axis=1)).ravel()) @ counts
    )
    found.data = np.log1p(found.data)
    return found.astype(np.float32)


def cells(x, genes=GENES):
    return ad.AnnData(sparse.csr_matrix(x, dtype=np.float32), var=pd.DataFrame(index=genes))


def variable_genes_beside_all():
    """As in scvi-tools#1080: counts of some genes as a layer, all genes logged as raw."""
    counts = draw_counts()
    some = cells(log1p(counts)[:, :100], GENES[:100])
    some.layers["counts"] = counts[:, :100].astype(np.float32)
    some.raw = cells(log1p(counts))
    return some


def a_scaled_layer():
    counts = draw_counts()
    found = cells(counts)
    scaled = counts.toarray() - counts.toarray().mean(axis=0)
    found.layers["counts"] = scaled.astype(np.float32)
    return found


def genes_that_are_numbers():
    """As in seurat-disk#123."""
    found = cells(log1p(draw_counts()))
    found.raw = cells(draw_counts(), [str(number) for number in range(400)])
    return found


def counts_of_nearly_all_genes():
    """A filter of rare genes is no reason to take logarithms."""
    counts = draw_counts()
    found = cells(counts[:, :390], GENES[:390])
    found.layers["counts"] = found.X.copy()
    found.raw = cells(log1p(counts))
    return found


def counts_in_x():
    found = cells(draw_counts())
    found.raw = cells(log1p(draw_counts()))
    return found


@pytest.mark.parametrize(
    ("make", "right", "why"),
    [
        (variable_genes_beside_all, "raw.X", "layers/counts has 100 genes and holds counts; raw.X"),
        (a_scaled_layer, "X", "layers/counts has 400 genes and holds what cannot be turned into"),
        (genes_that_are_numbers, "X", "raw.X has 0 genes and holds counts; X has 400 genes"),
        (counts_of_nearly_all_genes, "layers/counts", "layers/counts has 390 genes"),
        (counts_in_x, "X", "raw.X has 400 genes and holds log1p; X has 400 genes and holds counts"),
    ],
)
def test_auto_takes_what_has_most_genes_and_can_be_counts(make, right, why, tmp_path, caplog):
    adata = make()
    caplog.set_level(logging.INFO)
    query = query_in_memory(adata, HowToRead(), "q")
    assert query.found == right
    assert why in query.chosen.why
    assert f"{right} of q was chosen: {query.chosen.why}" in caplog.text
    for kind in ("csr", "csc"):
        adata.X = adata.X.asformat(kind)
        adata.write_h5ad(tmp_path / f"{kind}.h5ad")
        with open_query(tmp_path / f"{kind}.h5ad", HowToRead(), tmp_path, "q") as opened:
            assert (opened.found, opened.chosen.why) == (right, query.chosen.why)
            part = opened.parts.read(0, 5)
        assert (part != query.parts.read(0, 5)).nnz == 0


def test_auto_counts_the_genes_of_the_model():
    """The layer has more of the genes that matter, although raw has more genes."""
    counts = draw_counts()
    adata = cells(counts[:, :100], GENES[:100])
    adata.raw = cells(log1p(counts[:, 50:]), GENES[50:])
    model = Wanted(lambda genes: int(genes.index.isin(GENES[:90]).sum()), "of the model's genes")
    query = query_in_memory(adata, HowToRead(wanted=model), "q")
    assert query.found == "X"
    assert "raw.X has 40 of the model's genes" in query.chosen.why
    assert query_in_memory(adata, HowToRead(), "q").found == "raw.X"


def test_a_single_matrix_is_not_looked_at_and_needs_no_reason():
    assert query_in_memory(cells(draw_counts()), HowToRead(), "q").chosen.why == ""


def test_advice_names_only_matrices_that_the_file_has():
    scaled = a_scaled_layer()
    query = query_in_memory(scaled, HowToRead("layers/counts"), "q")
    assert query.parts.others == ("X",)
    alone = cells(np.full((5, 4), -1.0), GENES[:4])
    assert query_in_memory(alone, HowToRead(), "q").parts.others == ()


def kinds(names, **columns):
    return other_features(pd.DataFrame(columns, index=names)).tolist()


def test_other_features_of_a_citeseq_file_of_10x():
    types = ["Gene Expression", "Antibody Capture", "Gene Expression", "CRISPR Guide Capture"]
    found = kinds(["CD4", "CD4-1", "ERCC1", "g1"], feature_types=pd.Categorical(types))
    assert found == ["", "Antibody Capture", "", "CRISPR Guide Capture"]


def test_other_features_by_other_words_and_by_name():
    assert kinds(["CD4", "a"], modality=["GEX", "ADT"]) == ["", "ADT"]
    assert kinds(["ERCC-00002", "ERCC2", "CD4_TotalSeqB", "ADT_CD8"]) == [
        *("spike-in", "", "antibody", "antibody")
    ]
    # CELLxGENE's columns say what kind of gene it is: none of these is left out
    assert kinds(["a", "b"], feature_type=["protein_coding", "lncRNA"]) == ["", ""]
    assert kinds(["a", "b"], feature_biotype=["gene", "spike-in"]) == ["", "spike-in"]
    assert kinds(["a", "b"], feature_types=[None, "Gene Expression"]) == ["", ""]


def citeseq():
    """Two genes, an antibody of the same name as one of them, and a spike-in."""
    x = sparse.csr_matrix(np.array([[1, 0, 50, 7], [2, 3, 60, 8]], dtype=np.float32))
    types = ["Gene Expression", "Gene Expression", "Antibody Capture", "Gene Expression"]
    var = pd.DataFrame({"feature_types": types}, index=["CD4", "LYZ", "CD4", "ERCC-00002"])
    with pytest.warns(UserWarning, match="not unique"):
        return ad.AnnData(x, obs=pd.DataFrame(index=["a", "b"]), var=var)


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
def test_only_genes_are_read_in_memory_and_from_a_file(kind, tmp_path):
    adata = citeseq()
    adata.X = adata.X.toarray() if kind == "dense" else adata.X.asformat(kind)
    adata.write_h5ad(tmp_path / "q.h5ad")
    with open_query(tmp_path / "q.h5ad", HowToRead(), tmp_path, "q") as opened:
        for query in (opened, query_in_memory(adata, HowToRead(), "q")):
            assert query.genes.index.tolist() == ["CD4", "LYZ"]
            assert query.parts.shape == (2, 2)
            assert query.parts.read(0, 2).toarray().tolist() == [[1, 0], [2, 3]]
            assert query.chosen.left_out == "1 of type Antibody Capture, 1 of type spike-in"


def test_only_genes_of_parts_of_which_some_columns_are_left_out_already():
    whole = parts_in_memory(sparse.csr_matrix(np.arange(8.0).reshape(2, 4)), "X")
    kept = np.array([True, False, True, True])
    some = Parts(whole.name, (2, 3), whole.data, whole.indices, whole.indptr, kept)
    found, genes, _ = only_genes(some, pd.DataFrame(index=["A", "ERCC-00001", "B"]))
    assert genes.index.tolist() == ["A", "B"]
    assert found.read(0, 2).toarray().tolist() == [[0, 3], [4, 7]]


def test_only_genes_refuses_a_file_without_genes():
    parts = parts_in_memory(np.ones((2, 2)), "X of q")
    with pytest.raises(ValueError, match="X of q has features 2 of type Peaks, but cells are"):
        only_genes(parts, pd.DataFrame({"feature_types": ["Peaks", "Peaks"]}, index=["a", "b"]))
