"""auto takes the matrix by what it holds, the same in memory and from a file."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbert.cells.how_to_read import HowToRead, Wanted
from scbert.cells.query import open_query, query_in_memory
from tests.cells.test_steps import draw_counts

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
