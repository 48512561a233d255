"""Antibodies, guides, peaks and spike-ins are no genes of a cell, whatever the format."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbert.cells.features import only_genes, other_features
from scbert.cells.how_to_read import HowToRead
from scbert.cells.matrix import Parts, parts_in_memory
from scbert.cells.query import open_query, query_in_memory


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
